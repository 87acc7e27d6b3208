"""What to compute next for a generation. Pure.

Prompts are cut at absolute multiples of the slice size, and tokens of the answer are always computed one by one, those
of an earlier attempt too: so a resumed request repeats exactly the shapes, and with them the bits, of the first run.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """Positions ``start`` to ``end``. ``samples``: the next token is not known yet, so it is chosen from this."""

    start: int
    end: int
    prefill: bool
    samples: bool


def next_work(prompt_tokens: int, emitted_tokens: int, computed: int, slice_tokens: int) -> Work:
    """``computed`` positions are done; there is at least one more."""
    length = prompt_tokens + emitted_tokens
    assert computed < length
    prefill = computed < prompt_tokens
    end = min((computed // slice_tokens + 1) * slice_tokens, prompt_tokens) if prefill else computed + 1
    return Work(start=computed, end=end, prefill=prefill, samples=end == length)
