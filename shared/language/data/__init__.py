"""Data files of the language library: the tiny vocabulary and the text it was trained on, both written for it."""
