"""Which embeddings lie at the shard, and which are on their way. The shard drops what it is told to drop.

Input: running sequences. Output: media to fetch next, and how far each sequence can be computed. Only what comes next
is fetched, so that a long video is never held at once; a cached prefix needs no embeddings at all. It must not know
tensors.
"""

from collections import OrderedDict
from collections.abc import Sequence as Listing
from itertools import islice

from services.inference.sequence import Medium, Sequence

AHEAD = 2
"""Media that are fetched before a sequence gets to them."""


class Shelf:
    """Holds at most ``limit_bytes``, or one medium alone where that is larger."""

    def __init__(self, limit_bytes: int, row_bytes: int) -> None:
        self._limit, self._row_bytes = limit_bytes, row_bytes
        self.clear()

    def clear(self) -> None:
        self._held: OrderedDict[str, int] = OrderedDict()
        self._coming: dict[str, int] = {}
        self._dropped: list[str] = []
        self.bytes = 0

    def reach(self, sequence: Sequence) -> int:
        """Positions before this one can be computed."""
        for medium in sequence.media_from(sequence.computed):
            if medium.key not in self._held:
                return max(medium.position, sequence.computed)
        return len(sequence.tokens)

    def wanted(self, running: Listing[Sequence]) -> list[Medium]:
        """Media to fetch now; each is reserved until ``arrived`` or ``failed``. The next of everybody comes first."""
        upcoming = [list(islice(sequence.media_from(sequence.computed), AHEAD)) for sequence in running]
        needed: set[str] = set()  # nobody's next medium gives way; what is fetched ahead gives way to a next one
        found: list[Medium] = []
        for place in range(AHEAD):
            needed |= {media[place].key for media in upcoming if len(media) > place}
            for medium in (media[place] for media in upcoming if len(media) > place):
                if medium.key not in self._held and medium.key not in self._coming and self._reserve(medium, needed):
                    found.append(medium)
        return found

    def arrived(self, key: str) -> None:
        if key in self._coming:
            self._held[key] = self._coming.pop(key)

    def failed(self, key: str) -> None:
        self.bytes -= self._coming.pop(key, 0)

    def used(self, key: str) -> None:
        if key in self._held:
            self._held.move_to_end(key)

    def take_dropped(self) -> tuple[str, ...]:
        """Keys that the shard is to drop, once."""
        dropped, self._dropped = tuple(self._dropped), []
        return dropped

    def _reserve(self, medium: Medium, needed: set[str]) -> bool:
        size = medium.tokens * self._row_bytes
        for key in [key for key in self._held if key not in needed]:
            if self.bytes + size <= self._limit:
                break
            self.bytes -= self._held.pop(key)
            self._dropped.append(key)
        if self.bytes and self.bytes + size > self._limit:
            return False
        self._coming[medium.key] = size
        self.bytes += size
        return True
