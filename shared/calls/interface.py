"""Principle 2, written once: submit, follow, resume, cancel. Types that callers and callees see.

Caller side::

    async for item in follow(bus, clock, target, make_body, ChatItem): ...

``follow`` makes attempts until a ``CallEnded`` without failure arrives, and yields items decoded, each exactly once in
order *within an attempt*. ``make_body()`` is called before each attempt and returns the request body as a struct with
everything received so far inside, so the callee continues behind it. A gap in sequences, silence and death are one
case: a new attempt. A ``CallEnded`` with a retryable failure too; any other failure is raised as the error it stands
for. Attempts are bounded by number and by the deadline. Closing the iterator cancels the attempt.

Callee side::

    async with serve(bus, clock, name, subject, handler, BodyType, …): ...

``handler(context, body, out)`` runs as a task of its own after admission and calls ``await out.send(item)``. It is
cancelled when the caller cancels, falls silent, or the deadline passes.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec

from schemas.request import RequestContext

BodyT = TypeVar("BodyT", contravariant=True)


class CallPolicy(msgspec.Struct, frozen=True, kw_only=True):
    beat_seconds: float = 0.5
    silence_seconds: float = 2.0
    """Without any message for this long the other side counts as dead."""
    admission_seconds: float = 2.0
    attempts: int = 8
    recovery_seconds: float = 60.0
    """How long one interruption (no responder, refusals with retry-after, deaths in a row) may last in all."""
    wait_for_first_responder: bool = True
    """False: when nobody listens on the very first attempt, Unavailable is raised at once (the gateway's 503)."""


class CallTarget(msgspec.Struct, frozen=True, kw_only=True):
    subject: str
    context: RequestContext
    policy: CallPolicy = CallPolicy()


class CallWriter(Protocol):
    async def send(self, item: msgspec.Struct) -> None:
        """Publish the next item. Raises Cancelled once the caller is gone."""
        ...


CallHandler = Callable[[RequestContext, Any, CallWriter], Awaitable[None]]
AdmissionCheck = Callable[[RequestContext, Any], None]
"""Raises a MoontideError (``Busy`` with a retry-after, ``BadInput``) to refuse before any work is done."""
