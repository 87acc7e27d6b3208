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

    def settle(self, token: int) -> int:
        """``token`` was drawn: what becomes part of the answer, another one where it would leave no way to the end."""
        ...

    def accept(self, token: int) -> None:
        """``token`` is part of the answer since an earlier attempt. Raises BadInput when it cannot be."""
        ...


def allowed(mask: TokenMask, vocabulary: int) -> bytes:
    """The bits of ids that may come next, as the shard reads them."""
    bitmask = np.zeros(-(-vocabulary // WORD_BITS), dtype="<i4")
    mask.fill(bitmask)
    return bitmask.tobytes()
