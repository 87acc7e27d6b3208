"""Frames per second of a video, the same for one clip in every container.

Input: what the header says and what the timestamps measure. Output: one exact rate. Containers that count in
milliseconds (flv, wmv, mkv) blur both, so a rate next to a usual one is that one. Must not know PyAV.
"""

from collections.abc import Sequence
from fractions import Fraction

USUAL_RATES = (
    *(Fraction(rate) for rate in (1, 2, 5, 6, 8, 10, 12, 15, 16, 18, 20, 24, 25, 30, 48, 50, 60, 72, 90, 100, 120)),
    *(Fraction(rate * 1000, 1001) for rate in (12, 15, 24, 30, 48, 60, 120, 240)),
)
SAME_RATE = Fraction(1, 4000)
"""Closer than this (relative) is the same rate; 24 and 24000/1001 are four times as far apart."""
BELIEVABLE = 1.5
"""A header that differs from the measured rate by a larger factor is wrong (a browser's webm says 1000)."""


def frame_rate(
    announced: Sequence[Fraction | None], measured: Fraction | None, blur: Fraction = Fraction(0)
) -> Fraction | None:
    """A usual rate that is announced and measured, else the first believable announced rate, else the measured one.

    ``announced``: most trusted first. ``measured``: frames after the first per second between first and last, up to a
    factor of 1 ± ``blur`` from rounded timestamps. None: nothing is announced or measured.
    """
    tolerance = max(SAME_RATE, blur)
    stated = [rate for rate in announced if rate is not None and rate > 0]
    for rate in map(usual, stated):
        if rate in USUAL_RATES and (measured is None or abs(rate - measured) <= measured * tolerance):
            return rate
    for rate in stated:
        if measured is None or 1 / BELIEVABLE <= rate / measured <= BELIEVABLE:
            return usual(rate, tolerance)
    return None if measured is None else usual(measured, tolerance)


def usual(rate: Fraction, tolerance: Fraction = SAME_RATE) -> Fraction:
    """The usual rate next to ``rate``, or ``rate`` itself when none is near."""
    nearest = min(USUAL_RATES, key=lambda candidate: abs(candidate - rate))
    return nearest if abs(nearest - rate) <= rate * tolerance else rate
