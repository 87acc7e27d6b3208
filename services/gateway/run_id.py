"""Ids of runs: sortable by the time they were made, and not to be guessed.

Input: the time. Output: ``run-`` and 26 characters of base32, in an order of its letters that sorts as its numbers do.
Pure but for the random bits.
"""

import re
import secrets

from shared.errors import NotFound

ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"
RANDOM_BITS = 82
CHARACTERS = 26

_RUN_ID = re.compile(r"run-[a-z2-7]{26}")


def new_run_id(unix_seconds: float) -> str:
    """48 bits of milliseconds, then random ones."""
    number = int(unix_seconds * 1000) % (1 << 48) << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
    letters = [ALPHABET[number >> shift & 31] for shift in range(5 * (CHARACTERS - 1), -1, -5)]
    return f"run-{''.join(letters)}"


def checked_run_id(text: str) -> str:
    """What arrives in a path. Raises NotFound(``run.not_found``): an id that cannot be one is nobody's."""
    if not _RUN_ID.fullmatch(text):
        raise NotFound("run.not_found", "no such run", param="id")
    return text
