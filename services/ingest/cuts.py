"""How much a frame differs from the one before, with OpenCV: Bhattacharyya distance of HSV histograms.

Input: small RGB frames and their times. Output: scene cuts in seconds. What the model sees does not depend on it.
"""

import cv2
import numpy as np

from shared.media.patches import Pixels
from shared.media.scenes import scene_cuts

LOOKS_PER_SECOND = 8
SMALL_WIDTH = 64
SMALL_HEIGHT = 36
THRESHOLD = 0.5
MIN_GAP_SECONDS = 0.5
BINS = [16, 4, 4]
"""Hue, saturation, value."""
RANGES = [0, 180, 0, 256, 0, 256]


class CutFinder:
    """Fed with frames in order, about eight a second."""

    def __init__(self, frames_per_second: float) -> None:
        self._every = max(1, round(frames_per_second / LOOKS_PER_SECOND))
        self._last: np.ndarray | None = None
        self._seconds: list[float] = []
        self._distances: list[float] = []

    def wants(self, index: int) -> bool:
        return index % self._every == 0

    def see(self, small: Pixels, seconds: float) -> None:
        """``small``: [36, 64, 3] RGB."""
        hue = cv2.cvtColor(small, cv2.COLOR_RGB2HSV)
        histogram = cv2.calcHist([hue], [0, 1, 2], None, BINS, RANGES)
        distance = 0.0 if self._last is None else cv2.compareHist(self._last, histogram, cv2.HISTCMP_BHATTACHARYYA)
        self._last = histogram
        self._seconds.append(seconds)
        self._distances.append(distance)

    def cuts(self) -> tuple[float, ...]:
        return scene_cuts(self._seconds, self._distances, threshold=THRESHOLD, min_gap_seconds=MIN_GAP_SECONDS)
