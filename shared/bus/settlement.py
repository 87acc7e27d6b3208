"""What becomes of a job after its handler: a pure decision, the same for the real queue and the fake.

In: how the handler ended and the number of the delivery. Out: done, again later, or parked with a reason.
"""

from dataclasses import dataclass

from shared.errors import MoontideError

FIRST_RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 30.0


@dataclass(frozen=True)
class Done:
    pass


@dataclass(frozen=True)
class Again:
    delay_seconds: float


@dataclass(frozen=True)
class Parked:
    reason: str


Settlement = Done | Again | Parked


def before(attempt_number: int, max_attempts: int) -> Parked | None:
    """Whether a delivery is parked before it is touched: its earlier deliveries never ended (they may have killed)."""
    if attempt_number <= max_attempts:
        return None
    return Parked(f"not finished in {max_attempts} deliveries")


def after(error: Exception | None, attempt_number: int, max_attempts: int) -> Settlement:
    """Texts of foreign exceptions are kept out of the reason; they are in the log."""
    if error is None:
        return Done()
    ours = isinstance(error, MoontideError)
    reason = f"{error.code}: {error.message}" if ours else "internal: an internal error occurred"
    if attempt_number >= max_attempts or (ours and not error.retryable):
        return Parked(reason)
    return Again(_delay_seconds(error, attempt_number))


def _delay_seconds(error: Exception, attempt_number: int) -> float:
    if isinstance(error, MoontideError) and error.retry_after_seconds is not None:
        return min(max(error.retry_after_seconds, 0.0), MAX_RETRY_SECONDS)
    return min(FIRST_RETRY_SECONDS * 2 ** (attempt_number - 1), MAX_RETRY_SECONDS)
