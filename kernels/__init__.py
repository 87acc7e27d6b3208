"""Number formats and the operations on them. Imports torch and nothing of ours; does no input or output."""

VERSION = "1"
"""Part of every numerics class: raised whenever an operation may give other bits than before."""
