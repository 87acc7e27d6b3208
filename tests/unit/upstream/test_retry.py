"""How long an endpoint is waited for, towards callers that wait better themselves."""

from hypothesis import given
from hypothesis import strategies as some

from services.upstream.faults import Fault
from services.upstream.retry import RetryPolicy, patient, wait_seconds
from shared.errors import Busy

POLICY = RetryPolicy(max_retries=3, max_wait_seconds=20.0)


def fault(retry_after_seconds: float | None) -> Fault:
    error = Busy("upstream.busy", "full", retry_after_seconds=retry_after_seconds or 1.0)
    return Fault(error, transient=True, unhealthy=False, retry_after_seconds=retry_after_seconds)


@given(some.floats(0.1, 60.0), some.none() | some.floats(0.0, 120.0), some.floats(0.0, 0.99))
def test_all_retries_together_wait_no_longer_than_the_caller_has_patience(
    patience: float, asked: float | None, chance: float
) -> None:
    policy = patient(POLICY, patience)
    waited = 0.0
    for done in range(POLICY.max_retries):
        wait = wait_seconds(policy, fault(asked), done, repeatable=True, remaining_seconds=1e6, chance=chance)
        if wait is None:
            break
        waited += wait
    assert waited <= patience


def test_without_patience_the_policy_is_as_configured() -> None:
    assert patient(POLICY, 0.0) == POLICY
