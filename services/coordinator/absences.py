"""Who has been missing long enough to be given up: the patience of the sweeper, written once. Pure.

In: what was missing at each look. Out: what was missing in every look over some seconds. A look that did not happen in
time (a frozen process, a broker that was away) begins the count anew: nobody is given up for an outage of ours.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass
class _Missing:
    since_seconds: float
    looks: int = 1


class Absences:
    def __init__(self, seconds: float, looks: int, max_gap_seconds: float) -> None:
        """``looks``: how many in a row, with at most ``max_gap_seconds`` between two of them."""
        self._seconds = seconds
        self._looks = looks
        self._max_gap_seconds = max_gap_seconds
        self._missing: dict[str, _Missing] = {}
        self._looked_at: float | None = None

    def look(self, now_seconds: float, missing: Iterable[str]) -> list[str]:
        """Notes what is missing now, on a monotonic clock. Answers, sorted, what is to be given up."""
        if self._looked_at is None or now_seconds - self._looked_at > self._max_gap_seconds:
            self._missing.clear()
        self._looked_at = now_seconds
        self._missing = {name: self._again(name, now_seconds) for name in missing}
        return sorted(name for name, known in self._missing.items() if self._is_due(known, now_seconds))

    def _again(self, name: str, now_seconds: float) -> _Missing:
        known = self._missing.get(name)
        return _Missing(now_seconds) if known is None else _Missing(known.since_seconds, known.looks + 1)

    def _is_due(self, known: _Missing, now_seconds: float) -> bool:
        return known.looks >= self._looks and now_seconds - known.since_seconds >= self._seconds

    def settled(self, name: str) -> None:
        """Something was done about it: its count begins anew."""
        self._missing.pop(name, None)

    def disturbed(self) -> None:
        """What was seen so far may have been an outage of ours."""
        self._missing.clear()
