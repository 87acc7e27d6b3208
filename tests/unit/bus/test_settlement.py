"""What becomes of a job: every way a handler can end, at every delivery."""

from hypothesis import given
from hypothesis import strategies as st

from shared.bus.settlement import MAX_RETRY_SECONDS, Again, Done, Parked, after, before
from shared.errors import BadInput, Busy, Internal, Unavailable

attempts = st.integers(1, 50)


@given(attempts, attempts)
def test_success_is_done(attempt: int, limit: int) -> None:
    assert after(None, attempt, limit) == Done()


@given(attempts, attempts)
def test_a_permanent_failure_is_parked_with_its_reason(attempt: int, limit: int) -> None:
    settlement = after(BadInput("media.undecodable", "not a picture"), attempt, limit)
    assert settlement == Parked("media.undecodable: not a picture")


@given(attempts, attempts, st.sampled_from([Unavailable("a.b", "c"), Busy("a.b", "c"), ValueError("secret")]))
def test_what_may_pass_comes_again_until_the_last_delivery(attempt: int, limit: int, error: Exception) -> None:
    settlement = after(error, attempt, limit)
    if attempt < limit:
        assert isinstance(settlement, Again)
        assert 0.0 < settlement.delay_seconds <= MAX_RETRY_SECONDS
    else:
        assert isinstance(settlement, Parked)
        assert "secret" not in settlement.reason


@given(st.floats(0.0, 1e9))
def test_a_retry_after_is_kept_within_reason(seconds: float) -> None:
    settlement = after(Internal("a.b", "c", retry_after_seconds=seconds), 1, 5)
    assert settlement == Again(min(seconds, MAX_RETRY_SECONDS))


@given(attempts, attempts)
def test_a_job_delivered_too_often_is_parked_before_it_is_touched(attempt: int, limit: int) -> None:
    assert (before(attempt, limit) is not None) == (attempt > limit)
