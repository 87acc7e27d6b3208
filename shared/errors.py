"""Our errors: each says its code, its HTTP status, what it is about, and whether trying again can help.

    MoontideError
    ├── BadInput          400  the sender must change something; ``param`` names it
    ├── Unauthorized      401
    ├── NotFound          404
    ├── Cancelled         499  nobody wants the answer any more
    ├── Busy              429  full: try again after ``retry_after_seconds``
    ├── Internal          500  our mistake; the text says nothing of the inside
    ├── Unavailable       503  a part is missing or died: trying again can help
    └── DeadlineExceeded  504

Foreign errors (PyAV, torch, nats, obstore) are converted in the edge file that calls the foreign code.
"""

from schemas.failure import Failure


class MoontideError(Exception):
    """Base of every error that may cross a service boundary."""

    status = 500

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_seconds: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds
        if status is not None:
            self.status = status

    @property
    def retryable(self) -> bool:
        """Whether another attempt with the same input can succeed."""
        return self.status in (429, 503) or self.retry_after_seconds is not None

    def to_failure(self) -> Failure:
        return Failure(
            code=self.code,
            message=self.message,
            status=self.status,
            param=self.param,
            retry_after_seconds=self.retry_after_seconds,
        )


class BadInput(MoontideError):
    status = 400


class Unauthorized(MoontideError):
    status = 401


class NotFound(MoontideError):
    status = 404


class Busy(MoontideError):
    status = 429


class Cancelled(MoontideError):
    status = 499


class Internal(MoontideError):
    status = 500


class Unavailable(MoontideError):
    status = 503


class DeadlineExceeded(MoontideError):
    status = 504


_BY_STATUS: dict[int, type[MoontideError]] = {
    kind.status: kind
    for kind in (BadInput, Unauthorized, NotFound, Busy, Cancelled, Internal, Unavailable, DeadlineExceeded)
}


def from_failure(failure: Failure) -> MoontideError:
    """The error that a ``Failure`` from the wire stands for."""
    kind = _BY_STATUS.get(failure.status, MoontideError)
    return kind(
        failure.code,
        failure.message,
        param=failure.param,
        retry_after_seconds=failure.retry_after_seconds,
        status=failure.status,
    )


def internal_failure() -> Failure:
    """What the outside hears of an exception that is none of ours; the details are in the trace and the log."""
    return Internal("internal", "an internal error occurred").to_failure()
