"""`moontide bench engine`: this engine and its peers on the same weights, in turns, in one run."""
