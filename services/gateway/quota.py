"""How much of something was admitted lately: sliding windows, days, places. Pure: time is an argument.

Input: units and times. Output: what is used, and when so many more fit. Memory is bounded: a window has at most
``SLOTS + 1`` numbers. It must not know keys or HTTP.
"""

import math
from dataclasses import dataclass, field

MINUTE_SECONDS = 60.0
DAY_SECONDS = 86_400.0
SLOTS = 60


@dataclass
class Window:
    """Units admitted within the last ``seconds``: never fewer than there were, and those of one slot more at most."""

    seconds: float = MINUTE_SECONDS
    _slots: dict[int, int] = field(default_factory=dict)

    def used(self, now_seconds: float) -> int:
        self._forget(now_seconds)
        return sum(self._slots.values())

    def add(self, units: int, now_seconds: float) -> int:
        """The slot that they are counted in, for ``correct``."""
        slot = self._slot(now_seconds)
        self._slots[slot] = self._slots.get(slot, 0) + units
        return slot

    def correct(self, slot: int, units: int) -> None:
        """Units more, or fewer, than ``add`` was told. A slot that has passed needs no correction."""
        if slot in self._slots:
            self._slots[slot] = max(0, self._slots[slot] + units)

    def wait_seconds(self, units: int, limit: int, now_seconds: float) -> float:
        """0: so many units fit now. Infinite: they never do."""
        excess = self.used(now_seconds) + units - limit
        if excess <= 0:
            return 0.0
        for slot in sorted(self._slots):
            excess -= self._slots[slot]
            if excess <= 0:
                return self._passed_at(slot) - now_seconds
        return math.inf

    def reset_seconds(self, now_seconds: float) -> float:
        """Until nothing of what was admitted counts any more."""
        self._forget(now_seconds)
        return self._passed_at(max(self._slots)) - now_seconds if self._slots else 0.0

    def _slot(self, now_seconds: float) -> int:
        return math.floor(now_seconds * SLOTS / self.seconds)

    def _passed_at(self, slot: int) -> float:
        return (slot + 1 + SLOTS) * self.seconds / SLOTS

    def _forget(self, now_seconds: float) -> None:
        oldest = self._slot(now_seconds) - SLOTS
        for slot in [slot for slot in self._slots if slot < oldest]:
            del self._slots[slot]


@dataclass
class Day:
    """Units of the current day in UTC."""

    _number: int = -1
    _units: int = 0

    def used(self, unix_seconds: float) -> int:
        return self._units if self._number == day_number(unix_seconds) else 0

    def add(self, units: int, unix_seconds: float) -> int:
        """The number of the day that they are counted in, for ``correct``."""
        number = day_number(unix_seconds)
        if number != self._number:
            self._number, self._units = number, 0
        self._units += units
        return number

    def correct(self, number: int, units: int) -> None:
        if number == self._number:
            self._units = max(0, self._units + units)


def day_number(unix_seconds: float) -> int:
    return math.floor(unix_seconds / DAY_SECONDS)


def seconds_left_of_day(unix_seconds: float) -> float:
    return (day_number(unix_seconds) + 1) * DAY_SECONDS - unix_seconds
