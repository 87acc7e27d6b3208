"""Scene cuts: the strongest of neighbours, never closer than the gap."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from shared.media.scenes import scene_cuts

distances = st.lists(st.floats(0, 1), min_size=1, max_size=60)


def test_the_strongest_neighbour_is_the_cut() -> None:
    assert scene_cuts([0, 1, 2, 3, 9], [0, 0.6, 0.9, 0.7, 0.8], threshold=0.5, min_gap_seconds=5) == (2, 9)


@given(distances, st.floats(0.1, 3))
def test_cuts_are_apart_ascending_and_reach_the_threshold(row: list[float], gap: float) -> None:
    seconds = [index / 8 for index in range(len(row))]
    cuts = scene_cuts(seconds, row, threshold=0.5, min_gap_seconds=gap)
    assert all(later - earlier >= gap for earlier, later in pairwise(cuts))
    assert all(row[seconds.index(cut)] >= 0.5 for cut in cuts)


@given(st.lists(st.floats(0, 0.49), min_size=1, max_size=60))
def test_calm_video_has_no_cut(row: list[float]) -> None:
    assert scene_cuts([float(i) for i in range(len(row))], row, threshold=0.5, min_gap_seconds=1) == ()
