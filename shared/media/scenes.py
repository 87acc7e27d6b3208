"""Scene cuts from how much each looked-at frame differs from the one before.

Input: times and distances. Output: seconds of the cuts. Must not know how distance is measured.
"""

from collections.abc import Sequence


def scene_cuts(
    seconds: Sequence[float], distances: Sequence[float], *, threshold: float, min_gap_seconds: float
) -> tuple[float, ...]:
    """Times whose distance reaches ``threshold`` and is the largest within ``min_gap_seconds`` after the last cut.

    ``distances[i]`` is between frame i-1 and frame i; ``distances[0]`` is ignored. Ascending, at least the gap apart.
    """
    cuts: list[tuple[float, float]] = []
    for at, distance in zip(seconds[1:], distances[1:], strict=True):
        if distance < threshold:
            continue
        if not cuts or at - cuts[-1][0] >= min_gap_seconds:
            cuts.append((at, distance))
        elif distance > cuts[-1][1] and (len(cuts) < 2 or at - cuts[-2][0] >= min_gap_seconds):
            cuts[-1] = (at, distance)
    return tuple(at for at, _ in cuts)
