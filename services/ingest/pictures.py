"""Pictures with Pillow: the released resize, small JPEGs for people, a contact sheet.

Input: RGB pictures. Output: arrays for patches, JPEG files. What is kept for people never changes what the model sees.
Must not know where pictures come from.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from shared.media.chunks import timestamp_text
from shared.media.frames import spread
from shared.media.geometry import PatchGeometry
from shared.media.patches import Pixels, pad

JPEG_SIDE = 512
JPEG_QUALITY = 80
SHEET_FRAMES = 24
SHEET_COLUMNS = 6
THUMBNAIL_SIDE = 192
CAPTION_HEIGHT = 14


def model_picture(picture: Image.Image, geometry: PatchGeometry) -> Pixels:
    """The RGB picture as the model sees it, [padded_height, padded_width, 3]: bicubic, also where no size changes."""
    scaled = picture.resize((geometry.width, geometry.height), Image.Resampling.BICUBIC)
    return pad(np.asarray(scaled), geometry)


def save_jpeg(picture: Image.Image, path: Path) -> None:
    small = picture.copy()
    small.thumbnail((JPEG_SIDE, JPEG_SIDE), Image.Resampling.BICUBIC)
    small.save(path, "JPEG", quality=JPEG_QUALITY)


class ContactSheet:
    """Up to 24 of ``frames`` pictures, evenly spread, in rows of six with their times below."""

    def __init__(self, frames: int) -> None:
        self._wanted = frozenset(spread(frames, min(frames, SHEET_FRAMES)))
        self._cells: list[tuple[Image.Image, str]] = []

    def add(self, position: int, picture: Image.Image, seconds: float) -> None:
        if position in self._wanted:
            small = picture.copy()
            small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC)
            self._cells.append((small, timestamp_text(seconds)))

    def save(self, path: Path) -> None:
        """Writes the sheet as JPEG. At least one picture has been added."""
        width = max(cell.width for cell, _ in self._cells)
        height = max(cell.height for cell, _ in self._cells) + CAPTION_HEIGHT
        columns = min(len(self._cells), SHEET_COLUMNS)
        rows = -(-len(self._cells) // columns)
        sheet = Image.new("RGB", (columns * width, rows * height))
        pen = ImageDraw.Draw(sheet)
        for position, (cell, text) in enumerate(self._cells):
            left, top = position % columns * width, position // columns * height
            sheet.paste(cell, (left, top))
            pen.text((left + 2, top + height - CAPTION_HEIGHT + 1), text, fill="white")
        sheet.save(path, "JPEG", quality=JPEG_QUALITY)
