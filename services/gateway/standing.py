"""How somebody stands with a limit, and the refusal that says so.

It must not know how limits are counted, nor HTTP.
"""

from dataclasses import dataclass

from shared.errors import Busy


@dataclass(frozen=True)
class Standing:
    """How much of a limit is left."""

    limit: int
    remaining: int
    reset_seconds: float
    """Until all of it is free again."""


class QuotaExceeded(Busy):
    """Codes ``quota.<field of Quota>``. ``hopeless``: more than the whole limit, so that waiting does not help."""

    def __init__(self, code: str, message: str, standing: Standing, retry_after_seconds: float, hopeless: bool) -> None:
        super().__init__(code, message, retry_after_seconds=retry_after_seconds)
        self.standing = standing
        self.hopeless = hopeless
