"""One accepted chat: recorded, called, resumed, and ended in exactly one terminal record.

Input: a ``ChatRequest`` and its context. Output: ``ChatDelta``s and one ``ChatFinished``. The state of the request
(what was received so far) lives here and nowhere else. It must not know HTTP.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol

import msgspec

from schemas import names
from schemas.chat import ChatDelta, ChatFinished, ChatItem, ChatRequest
from schemas.events import RequestData
from schemas.request import RequestContext
from services.gateway.error_body import to_failure
from services.gateway.progress import Progress
from services.gateway.request_events import Outcome, RequestEvents
from shared.blobs.store import BlobStore
from shared.bus.interface import Bus
from shared.calls.interface import CallPolicy, CallTarget
from shared.clock import Clock
from shared.errors import Cancelled, Internal, MoontideError

log = logging.getLogger(__name__)


class Follow(Protocol):
    """The shape of ``shared.calls.follow.follow``."""

    def __call__(
        self, bus: Bus, clock: Clock, target: CallTarget, make_body: Callable[[], msgspec.Struct], item_type: Any, /
    ) -> AsyncGenerator[Any, None]: ...


class Chat:
    """A chat in progress. ``finished`` is set once the answer is complete."""

    def __init__(self, chats: "Chats", context: RequestContext, request: ChatRequest) -> None:
        self._chats = chats
        self._context = context
        self._request = request
        self.principal = context.principal
        self._progress = Progress()
        self.finished: ChatFinished | None = None

    async def items(self) -> AsyncGenerator[ChatDelta | ChatFinished, None]:
        """Each piece of the answer once, then ``ChatFinished``. Closing it cancels the call."""
        target = CallTarget(
            subject=names.chat(self._request.model),
            context=self._context,
            policy=CallPolicy(wait_for_first_responder=False),
        )
        calls = self._chats.follow(self._chats.bus, self._chats.clock, target, self._body, ChatItem)
        finished: ChatFinished | None = None
        async with aclosing(calls):
            async for item in calls:
                if isinstance(item, ChatFinished):
                    finished = item
                elif (fresh := await self._take(item)) is not None:
                    yield fresh
        if finished is None:
            raise Internal("chat.incomplete", "the answer ended without its last item")
        self.finished = finished
        yield finished

    def _body(self) -> ChatRequest:
        return msgspec.structs.replace(self._request, resume=self._progress.begin_attempt())

    async def _take(self, delta: ChatDelta) -> ChatDelta | None:
        fresh = self._progress.add(delta)
        if self._progress.checkpoint_due:
            try:
                self._progress.checkpoint(await self._chats.blobs.put(self._progress.snapshot()))
            except MoontideError as error:
                # The answer goes on; the next delta tries again.
                log.warning("checkpoint not stored", extra={"code": error.code})
        return fresh


class Chats:
    def __init__(self, bus: Bus, clock: Clock, blobs: BlobStore, events: RequestEvents, follow: Follow) -> None:
        self.bus = bus
        self.clock = clock
        self.blobs = blobs
        self.follow = follow
        self._events = events

    @asynccontextmanager
    async def accepted(self, context: RequestContext, request: ChatRequest, trace_id: str) -> AsyncIterator[Chat]:
        """The accepted event is out before the block begins; how the block ends decides the terminal record.
        Raises Unavailable when the event cannot be written: then nothing was accepted."""
        data = RequestData(
            request_id=context.request_id, holder=self.bus.instance, model=request.model, trace_id=trace_id
        )
        chat = Chat(self, context, request)
        error: BaseException | None = None
        try:
            await self._events.accept(data)
            yield chat
        except BaseException as raised:
            error = raised
            raise
        finally:
            outcome = outcome_of(chat, error)
            failure = to_failure(error) if outcome == "failed" and error is not None else None
            self._events.end(outcome, msgspec.structs.replace(data, failure=failure))


def outcome_of(chat: Chat, error: BaseException | None) -> Outcome:
    """A complete answer counts as finished, also when its reader went away during the last write."""
    if chat.finished is not None:
        return "finished"
    if error is None or isinstance(error, asyncio.CancelledError | GeneratorExit | Cancelled):
        return "cancelled"
    return "failed"
