"""Size of a picture on its way to the model: scaled down to a patch budget, padded to whole tokens.

Input: width and height in pixels. Output: the scaled size, the padded grid in patches, the token count.
Must not know pixels or how they are scaled. Source: released ``navit_resize_image``.
"""

import math
from dataclasses import dataclass

PATCH = 14
"""Pixels along one side of a patch."""
TOKEN = 28
"""Pixels along one side of a token: the encoder merges 2x2 patches."""


@dataclass(frozen=True)
class PatchGeometry:
    """``width`` x ``height`` pixels are scaled picture; zeros right and below fill the grid of patches."""

    width: int
    height: int
    grid_height: int
    grid_width: int

    @property
    def padded_width(self) -> int:
        return self.grid_width * PATCH

    @property
    def padded_height(self) -> int:
        return self.grid_height * PATCH

    @property
    def tokens(self) -> int:
        """Tokens of one picture, or of one chunk: the encoder averages a chunk's frames."""
        return (self.grid_height // 2) * (self.grid_width // 2)


def fit(width: int, height: int, patch_limit: int, patch_limit_one_side: int) -> PatchGeometry:
    """Geometry of a ``width`` x ``height`` picture under a patch budget; never scales up.

    The budget counts patches before padding, so that the padded grid may exceed it by a fraction.
    """
    if width < 1 or height < 1:
        raise ValueError("a picture has at least one pixel")
    side = patch_limit_one_side * PATCH
    patches = max(1, width // PATCH) * max(1, height // PATCH)
    scale = min(1.0, math.sqrt(patch_limit / patches), side / width, side / height)
    new_width = min(max(1, int(width * scale)), side)
    new_height = min(max(1, int(height * scale)), side)
    return PatchGeometry(
        width=new_width, height=new_height, grid_height=_patches(new_height), grid_width=_patches(new_width)
    )


def _patches(pixels: int) -> int:
    return math.ceil(pixels / TOKEN) * (TOKEN // PATCH)
