"""What the drawing of tokens takes and gives, per row. Without torch; numpy arrays.

Letters: W vocabulary.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float32]
Ids = NDArray[np.int32]
NO_IDS: Ids = np.empty(0, dtype=np.int32)
NO_NUMBERS: Row = np.empty(0, dtype=np.float32)
DEAD_END = -1
"""The token of a row where none is allowed."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What the logits become before a token is drawn, in this order; ids are inside the vocabulary."""

    repetition: float = 1.0
    """Divides the positive logits of ``seen``, multiplies the others."""
    seen: Ids = field(default_factory=lambda: NO_IDS)
    presence: float = 0.0
    """Taken off the logits of ``counted``."""
    frequency: float = 0.0
    """Likewise, as often as ``counts`` say."""
    counted: Ids = field(default_factory=lambda: NO_IDS)
    counts: Row = field(default_factory=lambda: NO_NUMBERS)
    biased: Ids = field(default_factory=lambda: NO_IDS)
    biases: Row = field(default_factory=lambda: NO_NUMBERS)
    """Added; an id may come twice."""
    forbidden: Ids = field(default_factory=lambda: NO_IDS)
    mask: bytes = b""
    """Bits of the allowed ids, the lowest of a byte first, what is missing is 0; empty: all."""

    @property
    def nothing(self) -> bool:
        return not (len(self.seen) or len(self.counted) or len(self.biased) or len(self.forbidden) or self.mask)


@dataclass(frozen=True, kw_only=True)
class DrawRow:
    """One row. Of the tokens from likeliest to least (the lower id first on a tie) the first ``top_k`` are kept, of
    those the fewest that reach ``top_p``, of those the ones with at least ``min_p`` of the likeliest's probability;
    ``number`` falls on one of them."""

    logits: Row
    """[W], contiguous, not changed; logprobs tell of them as they are."""
    changes: Changes
    number: float
    """In [0, 1)."""
    temperature: float
    """0 takes the likeliest."""
    top_k: int
    """0: all."""
    top_p: float
    min_p: float
    forced: int | None
    """A token that is not a matter of choice."""
    top_logprobs: int | None
    """None: no logprobs; else how many beside the token's own."""


@dataclass(frozen=True)
class DrawnRow:
    token: int
    """``DEAD_END``: none is allowed, and nothing else was found out."""
    logprob: float = 0.0
    top_ids: tuple[int, ...] = ()
    top: tuple[float, ...] = ()
    """Logprobs of ``top_ids``, the largest first."""
