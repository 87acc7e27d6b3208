"""The truth of every operation: plain torch, written to be read. Fast versions are tested against these."""
