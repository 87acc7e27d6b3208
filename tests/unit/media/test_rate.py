"""Rates: the usual one in every container, and headers that are not believed."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.media.rate import USUAL_RATES, frame_rate, usual


@given(st.sampled_from(USUAL_RATES), st.integers(3, 100_000))
def test_a_usual_rate_stays_itself(rate: Fraction, frames: int) -> None:
    assert frame_rate((rate, None), (frames - 1) / (frames / rate)) == rate


def test_flv_rounding_of_ntsc_is_undone() -> None:
    assert frame_rate((Fraction(989, 33), None), Fraction(2997, 100)) == Fraction(30000, 1001)


def test_asf_rounding_is_undone_by_the_guess_that_fits_the_times() -> None:
    announced = (Fraction(359, 12), Fraction(30000, 1001))
    assert frame_rate(announced, Fraction(10_000, 334), blur=Fraction(1, 334)) == Fraction(30000, 1001)


def test_dropped_frames_are_not_guessed_away() -> None:
    assert frame_rate((Fraction(295, 10), Fraction(30)), Fraction(295, 10), blur=Fraction(1, 9000)) == Fraction(295, 10)


@pytest.mark.parametrize("pair", [(Fraction(24), Fraction(24000, 1001)), (Fraction(60), Fraction(60000, 1001))])
def test_film_and_ntsc_film_stay_apart(pair: tuple[Fraction, Fraction]) -> None:
    assert usual(pair[0]) != usual(pair[1])


def test_an_absurd_header_gives_way_to_the_measure() -> None:
    assert frame_rate((Fraction(1000), Fraction(1000)), Fraction(29_9999, 10_000)) == Fraction(30)


def test_a_variable_rate_is_kept_as_it_is() -> None:
    assert frame_rate((Fraction(1733, 100),), Fraction(18)) == Fraction(1733, 100)


def test_without_times_the_header_counts_and_without_both_nothing() -> None:
    assert frame_rate((None, Fraction(25)), None) == 25
    assert frame_rate((Fraction(0), None), None) is None
