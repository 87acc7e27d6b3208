"""Which frames of a video the model sees: uniformly spread, about two a second.

Input: counts and rates. Output: indices of decoded frames. Must not know how frames are decoded.
Source: released ``kimi_k25_vision_processing.py`` (sampling of a video into chunks).
"""

import numpy as np


def sample_count(
    source_frames: int, frames_per_second: float, sample_frames_per_second: float, max_frames: int | None = None
) -> int:
    """How many frames are chosen: ``max(round(source_frames * min(sample, fps) / fps), 1)``, halves to even."""
    if source_frames < 1 or not frames_per_second > 0:
        raise ValueError("a video has at least one frame and a positive rate")
    rate = min(sample_frames_per_second, frames_per_second)
    count = max(round(source_frames * rate / frames_per_second), 1)
    return count if max_frames is None else min(count, max_frames)


def sample_indices(
    source_frames: int, frames_per_second: float, sample_frames_per_second: float, max_frames: int | None = None
) -> tuple[int, ...]:
    """Indices into the decoded frames, ascending, first and last frame included when two or more are chosen."""
    count = sample_count(source_frames, frames_per_second, sample_frames_per_second, max_frames)
    return spread(source_frames, count)


def spread(items: int, count: int) -> tuple[int, ...]:
    """``count`` positions of ``items``, evenly spread: ``linspace(0, items - 1, count).round()``."""
    return tuple(int(index) for index in np.linspace(0, items - 1, count).round().astype(int))
