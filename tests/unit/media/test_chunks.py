"""Chunks of four and the times written before them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.media.chunks import chunk_positions, timestamp_text


@given(st.integers(0, 500), st.integers(1, 8))
def test_chunks_hold_every_frame_once_and_only_the_last_is_short(frames: int, size: int) -> None:
    chunks = list(chunk_positions(frames, size))
    assert [position for chunk in chunks for position in chunk] == list(range(frames))
    assert all(len(chunk) == size for chunk in chunks[:-1])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "00:00:00.000"),
        (2.0399999, "00:00:02.039"),
        (207 / 25, "00:00:08.279"),
        (3661.5, "01:01:01.500"),
        (86400.25, "00:00:00.250"),
    ],
)
def test_milliseconds_are_cut_off(seconds: float, text: str) -> None:
    assert timestamp_text(seconds) == text


@given(st.floats(0, 1e6))
def test_text_is_what_strftime_writes(seconds: float) -> None:
    expected = time.strftime("%H:%M:%S", time.gmtime(seconds)) + f".{int((seconds % 1) * 1000):03d}"
    assert timestamp_text(seconds) == expected
