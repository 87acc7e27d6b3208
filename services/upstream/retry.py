"""When to ask the endpoint again, and how long to wait before. Pure: chance and time are arguments.

Input: a fault, how often it was tried, how much time is left. Output: seconds to wait, or None to give up.
"""

import msgspec

from services.upstream.faults import Fault

FIRST_WAIT_SECONDS = 0.25
GROWTH = 2.0


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    max_retries: int
    max_wait_seconds: float


def patient(policy: RetryPolicy, seconds: float) -> RetryPolicy:
    """The policy towards a caller that waits better itself beyond ``seconds``; 0: as it is."""
    if seconds <= 0:
        return policy
    longest = min(policy.max_wait_seconds, seconds / max(policy.max_retries, 1))
    return msgspec.structs.replace(policy, max_wait_seconds=longest)


def wait_seconds(
    policy: RetryPolicy, fault: Fault, retries_done: int, *, repeatable: bool, remaining_seconds: float, chance: float
) -> float | None:
    """Seconds until the next attempt, or None when there is none.

    ``repeatable``: nothing was delivered yet, or what was can be skipped. ``chance``: uniform in [0, 1); the wait is
    drawn from the upper half of the exponential step, and is never shorter than a ``Retry-After``.
    """
    if not fault.transient or not repeatable or retries_done >= policy.max_retries:
        return None
    step = min(FIRST_WAIT_SECONDS * GROWTH**retries_done, policy.max_wait_seconds)
    wait = max(step * (0.5 + 0.5 * chance), fault.retry_after_seconds or 0.0)
    if wait > policy.max_wait_seconds or wait >= remaining_seconds:
        return None
    return wait
