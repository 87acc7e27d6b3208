"""nats-py's errors as ours, in the one place that knows both. Foreign text stays behind (``__cause__``, logs)."""

from collections.abc import Iterator
from contextlib import contextmanager

import nats.errors
import nats.js.errors

from shared.errors import BadInput, Busy, Internal, MoontideError, NotFound, Unauthorized, Unavailable

# Error codes of JetStream's API (nats-server/server/errors.json).
WRONG_LAST_SEQUENCE = frozenset({10071, 10164})
STREAM_NAME_IN_USE = 10058
_NO_MESSAGE = frozenset({10037, 10043})
_NOT_DELETED = 10057
_FULL = frozenset({10023, 10047, 10077, 10122})
"""Insufficient resources, storage, a stream's message or byte limit."""


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise translate(error) from error


def translate(error: Exception) -> MoontideError:
    """Our error for one of nats-py's (or the socket's)."""
    match error:
        case nats.errors.NoRespondersError():
            return Unavailable("bus.no_responder", "no service listens on this subject")
        case nats.js.errors.NoStreamResponseError():
            return Unavailable("bus.no_stream", "no stream stores this subject")
        case nats.js.errors.APIError():
            return _translate_api(error)
        case nats.errors.MaxPayloadError():
            return BadInput("bus.payload_too_large", "a message is larger than the bus carries")
        case nats.errors.BadSubjectError():
            return Internal("bus.bad_subject", "a message was meant for a subject that cannot exist")
        case nats.errors.AuthorizationError() | nats.errors.SecureConnWantedError():
            return Unauthorized("bus.refused", "the bus refused this connection")
        case nats.errors.OutboundBufferLimitError() | nats.errors.ConnectionClosedError():
            return Unavailable("bus.disconnected", "the bus is not connected")
        case TimeoutError():
            return Unavailable("bus.timeout", "nobody answered in time")
        case _:
            return Unavailable("bus.failed", "the bus could not do this")


def is_missing(error: nats.js.errors.APIError) -> bool:
    """There is no such message (any more); how the server says so depends on where it keeps them."""
    if error.err_code == _NOT_DELETED:
        return error.description in ("no message found", "deleted message", "stream store EOF")
    return error.err_code in _NO_MESSAGE


def _translate_api(error: nats.js.errors.APIError) -> MoontideError:
    if error.err_code in _FULL:
        return Busy("bus.full", "the queue is full", retry_after_seconds=1.0)
    if error.code == 404:
        return NotFound("bus.not_found", "the stream or its reader does not exist")
    return Unavailable("bus.stream_failed", "the stream could not do this")
