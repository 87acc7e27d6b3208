"""What the engine measures of itself, and from it when a refused caller may come back. Pure.

Input: rows and seconds of forwards, ends of generations. Output: seconds.
"""

WEIGHT = 0.1
"""Of the newest measurement in the moving averages."""
SHORTEST_SECONDS, UNKNOWN_SECONDS, LONGEST_SECONDS = 0.1, 1.0, 60.0


class Rates:
    def __init__(self) -> None:
        self._row_seconds: float | None = None
        self._gap_seconds: float | None = None
        self._busy_since_end = 0.0

    @property
    def rows_per_second(self) -> float | None:
        return 1 / self._row_seconds if self._row_seconds else None

    def forward(self, rows: int, seconds: float) -> None:
        """A forward took so long, from its start to the tokens."""
        self._row_seconds = _average(self._row_seconds, seconds / rows)
        self._busy_since_end += seconds

    def ended(self) -> None:
        """A generation ended. Only busy time counts."""
        self._gap_seconds = _average(self._gap_seconds, self._busy_since_end)
        self._busy_since_end = 0.0

    def retry_after(self, excess_generations: int, excess_rows: int) -> float:
        """Seconds until so many generations have ended and so many rows are computed, at the measured rates."""
        if self._row_seconds is None:
            return UNKNOWN_SECONDS
        ends = excess_generations * max(
            self._gap_seconds or 0.0, self._busy_since_end if not self._gap_seconds else 0.0
        )
        return min(max(ends, excess_rows * self._row_seconds, SHORTEST_SECONDS), LONGEST_SECONDS)


def _average(old: float | None, new: float) -> float:
    return new if old is None else old + WEIGHT * (new - old)
