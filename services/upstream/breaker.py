"""The circuit breaker: after failures in a row an endpoint is left alone for a while, then tried with one request.

Pure: the time is an argument (monotonic seconds). It must not know what a failure is.
"""

from dataclasses import dataclass


@dataclass
class Breaker:
    failures: int
    """In a row, until the circuit opens."""
    open_seconds: float
    failed: int = 0
    opened_at: float | None = None
    probing: bool = False
    """One request is on its way to see whether the endpoint is back."""

    def blocked_seconds(self, now: float) -> float:
        """How long to stay away; 0.0 when a request may be tried."""
        if self.opened_at is None:
            return 0.0
        left = self.opened_at + self.open_seconds - now
        if left > 0:
            return left
        return self.open_seconds if self.probing else 0.0

    def start(self, now: float) -> float:
        """Like ``blocked_seconds``; when it returns 0.0 the caller's request counts, and must be reported."""
        blocked = self.blocked_seconds(now)
        if blocked == 0.0 and self.opened_at is not None:
            self.probing = True
        return blocked

    def succeeded(self) -> None:
        self.failed, self.opened_at, self.probing = 0, None, False

    def failed_at(self, now: float) -> None:
        self.failed += 1
        if self.probing or self.failed >= self.failures:
            self.opened_at, self.probing = now, False

    def abandoned(self) -> None:
        """The request ended without telling anything about the endpoint (its caller left)."""
        self.probing = False
