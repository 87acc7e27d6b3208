"""Frame choice: counts and positions of the released sampling, for any length and rate."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.media.frames import sample_count, sample_indices

lengths = st.integers(1, 20_000)
rates = st.floats(0.1, 240.0)


@pytest.mark.parametrize(
    ("source_frames", "rate", "count"),
    [
        (325, 25.0, 26),
        (72, 24.0, 6),
        (10, 10.0, 2),
        (1, 30.0, 1),
        (5, 1.0, 5),
        (3, 60.0, 1),
        (15, 12.0, 2),
        (21, 12.0, 4),
    ],
)
def test_count_rounds_halves_to_even_and_never_up_from_the_source(source_frames: int, rate: float, count: int) -> None:
    assert sample_count(source_frames, rate, 2.0) == count


def test_positions_are_spread_over_the_whole_video() -> None:
    assert sample_indices(325, 25.0, 2.0)[:5] == (0, 13, 26, 39, 52)
    assert sample_indices(325, 25.0, 2.0)[-1] == 324


@given(lengths, rates)
def test_indices_are_distinct_ascending_and_inside(source_frames: int, rate: float) -> None:
    indices = sample_indices(source_frames, rate, 2.0)
    assert len(indices) == max(round(source_frames * min(2.0, rate) / rate), 1)
    assert all(one < other for one, other in itertools.pairwise(indices))
    assert indices[0] == 0
    assert indices[-1] == (source_frames - 1 if len(indices) > 1 else 0)


@given(lengths, rates, st.integers(1, 300))
def test_a_limit_holds_and_keeps_both_ends(source_frames: int, rate: float, limit: int) -> None:
    indices = sample_indices(source_frames, rate, 2.0, limit)
    assert 1 <= len(indices) <= limit
    assert max(indices) < source_frames


@pytest.mark.parametrize(("source_frames", "rate"), [(0, 25.0), (10, 0.0), (10, -1.0), (10, float("nan"))])
def test_what_is_no_video_is_refused(source_frames: int, rate: float) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        sample_count(source_frames, rate, 2.0)
