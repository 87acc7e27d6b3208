"""Which cached page is given up first: the one whose next use is farthest away, as far as anybody knows.

A node is expected at the end of its last use plus the announced pause. Before that time the wait left is known; after
it, whoever is overdue is guessed to need as long again as it is late already. Both are the distance of now from the
expected time, so the farthest node is always the earliest or the latest expected one: two heaps find it. Without pauses
this is exactly least recently used. (Farthest next use first is Belady's rule, IBM Systems Journal 5(2), 1966.)
"""

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.inference.prefix import Node

SLACK = 64

Entry = tuple[float, int, "Node"]


class EvictionOrder:
    """Idle leaves of a prefix tree. A node's ``ticket`` is 0 while it is not among them."""

    def __init__(self) -> None:
        self._earliest: list[Entry] = []
        self._latest: list[Entry] = []
        self._tickets = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, node: "Node") -> None:
        self._tickets += 1
        self._count += 1
        node.ticket = self._tickets
        heapq.heappush(self._earliest, (node.expected, self._tickets, node))
        heapq.heappush(self._latest, (-node.expected, self._tickets, node))
        if len(self._earliest) > 2 * self._count + SLACK:
            self._earliest = _live(self._earliest)
        if len(self._latest) > 2 * self._count + SLACK:
            self._latest = _live(self._latest)

    def discard(self, node: "Node") -> None:
        if node.ticket:
            node.ticket = 0
            self._count -= 1

    def farthest(self, now: float) -> "Node":
        """The node to give up. There must be one."""
        earliest, latest = _first(self._earliest), _first(self._latest)
        return latest if latest.expected - now > now - earliest.expected else earliest


def _first(heap: list[Entry]) -> "Node":
    while heap[0][2].ticket != heap[0][1]:
        heapq.heappop(heap)
    return heap[0][2]


def _live(heap: list[Entry]) -> list[Entry]:
    """Without the entries of nodes that have left or were added again."""
    live = [entry for entry in heap if entry[2].ticket == entry[1]]
    heapq.heapify(live)
    return live
