"""Chosen frames in groups, and the time that the prompt says before each group.

Input: chosen frame indices and the rate. Output: groups and ``HH:MM:SS.mmm``. Must not know pixels.
Source: released ``media_utils.py`` (timestamp mode ``hh:mm:ss.fff``).
"""

from collections.abc import Iterator

SECONDS_PER_DAY = 24 * 3600


def chunk_positions(frames: int, chunk_frames: int) -> Iterator[tuple[int, ...]]:
    """Positions 0 … frames-1 in consecutive groups of ``chunk_frames``; the last group may be shorter."""
    for first in range(0, frames, chunk_frames):
        yield tuple(range(first, min(first + chunk_frames, frames)))


def timestamp_text(seconds: float) -> str:
    """``HH:MM:SS.mmm``, milliseconds cut off, not rounded. A day later it starts again, as ``strftime`` does."""
    whole = int(seconds) % SECONDS_PER_DAY
    milliseconds = int((seconds % 1) * 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{milliseconds:03d}"
