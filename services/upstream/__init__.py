"""The chat contract, answered by an OpenAI-compatible endpoint. Needs no torch and knows no token ids."""
