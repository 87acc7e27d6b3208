"""What a refusal of the model's side means for a run: asked again, shortened, or the end. Pure.

Input: an error and how many came in a row. Output: what kind it is, and how long to wait. Whatever may pass is waited
for until the run's time is over; what asking again cannot change ends the run.
"""

from typing import Literal

from schemas.failure import NOT_RESUMABLE
from shared.errors import MoontideError

Kind = Literal["passing", "too_long", "permanent"]

TOO_LONG = frozenset({"chat.context_overflow"})
PASSING_STATUS = frozenset({408, 409, 425, 429, 499})
"""Of the statuses below 500 those that say nothing against the request."""
MAX_INTERNAL_FAILURES = 10
"""In a row: a mistake of ours that comes again and again is not waited for."""
MAX_ASKED_WAIT_SECONDS = 600.0


def kind(error: MoontideError, failures: int) -> Kind:
    """``failures``: in a row, this one included."""
    if error.code in TOO_LONG:
        return "too_long"
    if error.retryable or starts_over(error):
        return "passing"
    if error.status == 500 and failures >= MAX_INTERNAL_FAILURES:
        return "permanent"
    return "passing" if error.status >= 500 or error.status in PASSING_STATUS else "permanent"


def starts_over(error: MoontideError) -> bool:
    """Whether only what was received of an answer stands in the way: without it, the next attempt begins anew."""
    return error.code == NOT_RESUMABLE or error.param == "resume"


def wait_seconds(error: MoontideError, failures: int, first_seconds: float, max_seconds: float) -> float:
    """Doubled each time, and never shorter than what was asked for (within reason)."""
    growing = min(first_seconds * 2.0 ** min(failures - 1, 20), max_seconds)
    return max(growing, min(error.retry_after_seconds or 0.0, MAX_ASKED_WAIT_SECONDS))
