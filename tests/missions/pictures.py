"""A bar chart as pixels: what a model can say of it, and whether a file is one. Pure."""

import io
from dataclasses import dataclass

from PIL import Image

BAR, TALLEST = (40, 90, 200), (220, 40, 40)
"""Colours of the bars that the mission draws: blue ones, and the tallest in red."""


@dataclass(frozen=True)
class Chart:
    width: int
    height: int
    bars: int
    tallest: int
    """Position of the red bar, from 0; -1 without one."""

    @property
    def words(self) -> str:
        return f"a chart of {self.bars} bars, {self.width}x{self.height} pixels, the tallest is number {self.tallest}"


def read_chart(data: bytes) -> Chart:
    """Counts bars along the lowest row of pixels."""
    with Image.open(io.BytesIO(data)) as image:
        picture = image.convert("RGB")
    row = [picture.getpixel((x, picture.height - 1)) for x in range(picture.width)]
    starts = [colour for before, colour in zip([None, *row], row, strict=False) if colour != before and _is_bar(colour)]
    tallest = next((place for place, colour in enumerate(starts) if _near(colour, TALLEST)), -1)
    return Chart(picture.width, picture.height, len(starts), tallest)


def _is_bar(colour: object) -> bool:
    return _near(colour, BAR) or _near(colour, TALLEST)


def _near(colour: object, wanted: tuple[int, int, int]) -> bool:
    assert isinstance(colour, tuple)
    return all(abs(int(one) - two) < 12 for one, two in zip(colour, wanted, strict=True))
