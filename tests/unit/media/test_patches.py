"""Patches: every pixel at its place, padding black, and back again."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.media.geometry import fit
from shared.media.patches import from_patches, pad, to_patches


def drawn(frames: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))
def test_every_patch_is_the_square_it_stands_for(frames: int, rows: int, columns: int) -> None:
    pictures = drawn(frames, rows * 14, columns * 14)
    patches = to_patches(pictures)
    assert patches.shape == (frames * rows * columns, 3, 14, 14)
    position = 0
    for frame in range(frames):
        for row in range(rows):
            for column in range(columns):
                square = pictures[frame, row * 14 : row * 14 + 14, column * 14 : column * 14 + 14]
                for channel in range(3):
                    assert (patches[position, channel] == square[:, :, channel]).all()
                position += 1


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))
def test_pictures_come_back(frames: int, rows: int, columns: int) -> None:
    pictures = drawn(frames, rows * 14, columns * 14)
    assert (from_patches(to_patches(pictures), (frames, rows, columns)) == pictures).all()


@given(st.integers(1, 120), st.integers(1, 120))
def test_padding_is_zero_right_and_below(width: int, height: int) -> None:
    geometry = fit(width, height, 4096, 512)
    picture = np.full((geometry.height, geometry.width, 3), 200, np.uint8)
    padded = pad(picture, geometry)
    assert padded.shape == (geometry.padded_height, geometry.padded_width, 3)
    assert (padded[:height, :width] == 200).all()
    assert padded.sum() == picture.sum()
