"""What was made of payloads that come again and again: a history is sent anew with each step of a conversation.

Input: payloads and what was read from them. Output: the same object for an equal payload, within bounded bytes; the one
unused for longest goes first. Knows nothing of what is kept.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

from schemas.blobs import Payload

T = TypeVar("T")

MAX_BYTES = 64 * 1024 * 1024


class Kept(Generic[T]):
    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        """``max_bytes``: of the payloads, not of what is made of them."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._known: OrderedDict[bytes | str, tuple[T, int]] = OrderedDict()

    def get(self, payload: Payload) -> T | None:
        key = _key(payload)
        if (known := self._known.get(key)) is None:
            return None
        self._known.move_to_end(key)
        return known[0]

    def keep(self, payload: Payload, value: T, size_bytes: int) -> None:
        key = _key(payload)
        if key in self._known or size_bytes > self._max_bytes:
            return
        self._known[key] = value, size_bytes
        self._bytes += size_bytes
        while self._bytes > self._max_bytes:
            self._bytes -= self._known.popitem(last=False)[1][1]


def _key(payload: Payload) -> bytes | str:
    return payload if isinstance(payload, bytes) else payload.key
