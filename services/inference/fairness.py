"""Fair shares between owners: a virtual time per owner, and waiting sequences in one line per owner.

An owner's time is the rows computed for it divided by its weight; who is behind comes first (the virtual token counter
of Sheng et al., OSDI 2024). Who comes back from a rest starts at the time of those who are there: a rest saves nothing
up.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from services.inference.sequence import Sequence

REMEMBERED_OWNERS = 4096


class FairShare:
    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = dict(weights or {})
        self._times: dict[str, float] = {}
        self._living: dict[str, int] = {}
        self._floor = 0.0

    def weight(self, owner: str) -> float:
        return self._weights.get(owner, 1.0)

    def time(self, owner: str) -> float:
        return self._times.get(owner, self._floor)

    def enter(self, owner: str) -> None:
        """A sequence of this owner came to live here."""
        if owner not in self._living:
            self._raise_floor()
            self._times[owner] = max(self.time(owner), self._floor)
        self._living[owner] = self._living.get(owner, 0) + 1

    def leave(self, owner: str) -> None:
        self._raise_floor()
        self._living[owner] -= 1
        if not self._living[owner]:
            del self._living[owner]
            self._forget()

    def charge(self, owner: str, rows: int) -> None:
        self._times[owner] = self.time(owner) + rows / self.weight(owner)

    def _raise_floor(self) -> None:
        if self._living:
            self._floor = max(self._floor, min(self.time(owner) for owner in self._living))

    def _forget(self) -> None:
        """Keep only times that still say something, and of them a bounded number."""
        if len(self._times) > len(self._living) + REMEMBERED_OWNERS:
            resting = [owner for owner in self._times if owner not in self._living]
            resting.sort(key=self.time)
            for owner in resting[: len(resting) - REMEMBERED_OWNERS // 2]:
                del self._times[owner]


class Lines:
    """Waiting sequences of one class."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[Sequence]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sequence]:
        for line in self._lines.values():
            yield from line

    def push(self, sequence: Sequence, *, first: bool = False) -> None:
        line = self._lines.setdefault(sequence.owner, deque())
        if first:
            line.appendleft(sequence)
        else:
            line.append(sequence)
        self._count += 1

    def remove(self, sequence: Sequence) -> None:
        line = self._lines[sequence.owner]
        line.remove(sequence)
        if not line:
            del self._lines[sequence.owner]
        self._count -= 1

    def head(self, share: FairShare, passed: Iterable[str] = ()) -> Sequence | None:
        """The first of the owner who is farthest behind, those in ``passed`` left out; on a tie the one who came
        first."""
        heads = [line[0] for owner, line in self._lines.items() if owner not in passed]
        return min(heads, key=lambda head: (share.time(head.owner), head.number), default=None)
