"""Pixels as the patches that the vision encoder takes, and back.

Input: uint8 pictures [T, H, W, 3]. Output: uint8 patches [N, 3, 14, 14], frames first, then rows, then columns.
Normalisation is the encoder's. Source: released ``media_utils.py`` (``navit_patchify``).
"""

import numpy as np
from numpy.typing import NDArray

from shared.media.geometry import PATCH, PatchGeometry

Pixels = NDArray[np.uint8]


def pad(picture: Pixels, geometry: PatchGeometry) -> Pixels:
    """[height, width, 3] to [padded_height, padded_width, 3], zeros right and below (black before normalisation)."""
    below = geometry.padded_height - picture.shape[0]
    right = geometry.padded_width - picture.shape[1]
    return np.pad(picture, ((0, below), (0, right), (0, 0)))


def to_patches(pictures: Pixels) -> Pixels:
    """[T, H, W, 3] to [T * H/14 * W/14, 3, 14, 14], C order. H and W are multiples of 14."""
    frames, height, width, channels = pictures.shape
    rows, columns = height // PATCH, width // PATCH
    cells = pictures.reshape(frames, rows, PATCH, columns, PATCH, channels)
    cells = cells.transpose(0, 1, 3, 5, 2, 4)
    return np.ascontiguousarray(cells.reshape(frames * rows * columns, channels, PATCH, PATCH))


def from_patches(patches: Pixels, grid: tuple[int, int, int]) -> Pixels:
    """The inverse of ``to_patches``: [t*h*w, 3, 14, 14] and grid (t, h, w) to [t, 14h, 14w, 3]."""
    frames, rows, columns = grid
    cells = patches.reshape(frames, rows, columns, patches.shape[1], PATCH, PATCH)
    cells = cells.transpose(0, 1, 4, 2, 5, 3)
    return np.ascontiguousarray(cells.reshape(frames, rows * PATCH, columns * PATCH, patches.shape[1]))
