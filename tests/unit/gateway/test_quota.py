"""Windows and days: never more than the limit in any minute, and an honest word about when to come back."""

import math

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.quota import DAY_SECONDS, MINUTE_SECONDS, SLOTS, Day, Window, seconds_left_of_day

steps = st.lists(st.tuples(st.floats(0, 90), st.integers(1, 40)), max_size=60)


@given(steps, st.integers(1, 100), st.floats(0, 1e6))
def test_no_minute_holds_more_than_the_limit(wanted: list[tuple[float, int]], limit: int, now: float) -> None:
    window, admitted = Window(), []
    for pause, units in wanted:
        now += pause
        if window.wait_seconds(units, limit, now) == 0:
            window.add(units, now)
            admitted.append((now, units))
        for start, _ in admitted:
            inside = [held for at, held in admitted if start <= at < start + MINUTE_SECONDS]
            assert sum(inside) <= limit
        assert len(window._slots) <= SLOTS + 1


@given(steps, st.integers(1, 100), st.integers(1, 100), st.floats(0, 1e6))
def test_waiting_as_told_is_enough_and_no_more_than_a_slot_too_long(
    wanted: list[tuple[float, int]], limit: int, units: int, now: float
) -> None:
    window = Window()
    for pause, given_units in wanted:
        now += pause
        window.add(given_units, now)
    wait = window.wait_seconds(units, limit, now)
    if units > limit:
        assert math.isinf(wait)
        return
    assert 0 <= wait <= MINUTE_SECONDS * (1 + 1 / SLOTS)
    assert window.wait_seconds(units, limit, now + wait + 1e-6) == 0
    assert window.used(now + window.reset_seconds(now) + 1e-6) == 0


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0, 59), st.floats(0, 1e6))
def test_a_correction_counts_as_if_it_had_been_known(guess: int, truth: int, later: float, now: float) -> None:
    window, day = Window(), Day()
    slot, number = window.add(guess, now), day.add(guess, now)
    window.correct(slot, truth - guess)
    day.correct(number, truth - guess)
    assert window.used(now + later) == truth
    assert day.used(now) == truth
    assert window.used(now + MINUTE_SECONDS * 2) == 0
    window.correct(slot, 5)
    assert window.used(now + MINUTE_SECONDS * 2) == 0


def test_a_day_ends_at_midnight() -> None:
    day, noon = Day(), DAY_SECONDS * 20_000 + DAY_SECONDS / 2
    number = day.add(7, noon)
    assert seconds_left_of_day(noon) == DAY_SECONDS / 2
    assert day.used(noon + DAY_SECONDS / 2 - 1) == 7
    assert day.used(noon + DAY_SECONDS / 2) == 0
    day.add(1, noon + DAY_SECONDS)
    day.correct(number, 100)
    assert day.used(noon + DAY_SECONDS) == 1
