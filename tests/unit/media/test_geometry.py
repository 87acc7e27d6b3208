"""Resize geometry: the released formula, its limits, and known pictures."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.media.geometry import PatchGeometry, fit

sides = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("width", "height", "limit", "expected"),
    [
        (320, 180, 4096, PatchGeometry(320, 180, 14, 24)),
        (2560, 1440, 4096, PatchGeometry(1202, 676, 50, 86)),
        (800, 600, 16384, PatchGeometry(800, 600, 44, 58)),
        (1, 1, 16384, PatchGeometry(1, 1, 2, 2)),
        (100_000, 1, 16384, PatchGeometry(7167, 1, 2, 512)),
    ],
)
def test_known_pictures(width: int, height: int, limit: int, expected: PatchGeometry) -> None:
    assert fit(width, height, limit, 512) == expected


def test_tokens_of_known_pictures() -> None:
    assert fit(320, 180, 4096, 512).tokens == 84
    assert fit(800, 600, 16384, 512).tokens == 638


@given(sides, sides, st.sampled_from([4096, 16384]))
def test_size_follows_the_released_formula(width: int, height: int, limit: int) -> None:
    by_area = math.sqrt(limit / (max(1.0, width // 14) * max(1.0, height // 14)))
    scale = min(1.0, by_area, 512 * 14 / width, 512 * 14 / height)
    found = fit(width, height, limit, 512)
    assert found.width == min(max(1, int(width * scale)), 7168)
    assert found.height == min(max(1, int(height * scale)), 7168)


@given(sides, sides)
def test_padding_is_the_least_that_gives_whole_tokens(width: int, height: int) -> None:
    found = fit(width, height, 16384, 512)
    assert found.padded_width % 28 == 0
    assert found.padded_height % 28 == 0
    assert 0 <= found.padded_width - found.width < 28
    assert 0 <= found.padded_height - found.height < 28
    assert found.tokens == (found.padded_width // 28) * (found.padded_height // 28)
    assert found.width <= width
    assert found.height <= height


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (-1, 5)])
def test_an_empty_picture_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        fit(*size, 4096, 512)
