"""What a grammar is to the engine: something that says which tokens may come next. Compiled elsewhere."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 32


class TokenMask(Protocol):
    """State of one answer's grammar. Called on the event loop: both must be quick."""

    def fill(self, bitmask: NDArray[np.int32]) -> None:
        """Set bit i % 32 of word i // 32 for every id that may come next, and clear the others."""
        ...

    def accept(self, token: int) -> None:
        """``token`` became part of the answer. Stop ids are not told."""
        ...


def allowed(mask: TokenMask, vocabulary: int) -> bytes:
    """The bits of ids that may come next, as the shard reads them."""
    bitmask = np.zeros(-(-vocabulary // WORD_BITS), dtype="<i4")
    mask.fill(bitmask)
    return bitmask.tobytes()
