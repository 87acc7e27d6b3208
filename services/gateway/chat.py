"""One accepted chat: recorded, called, resumed, and ended in exactly one terminal record.

Input: a ``ChatRequest`` per choice and their context. Output: ``ChatDelta``s and one ``ChatFinished`` per choice. The
state of the request (what was received so far) lives here and nowhere else. It must not know HTTP.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol

import msgspec

from schemas import names
from schemas.chat import ChatDelta, ChatFinished, ChatItem, ChatRequest
from schemas.events import RequestData
from schemas.request import RequestContext
from services.gateway.choices import interleaved
from services.gateway.error_body import to_failure
from shared.blobs.store import BlobStore
from shared.bus.interface import Bus
from shared.calls.interface import CallPolicy, CallTarget
from shared.calls.progress import Progress
from shared.clock import Clock
from shared.errors import Cancelled, Internal, MoontideError
from shared.request_events import Outcome, RequestEvents

log = logging.getLogger(__name__)


class Follow(Protocol):
    """The shape of ``shared.calls.follow.follow``."""

    def __call__(
        self, bus: Bus, clock: Clock, target: CallTarget, make_body: Callable[[], msgspec.Struct], item_type: Any, /
    ) -> AsyncGenerator[Any, None]: ...


class Choice:
    """One call of a chat, and what was received of it so far."""

    def __init__(self, chats: "Chats", context: RequestContext, request: ChatRequest, one_call: bool) -> None:
        self._chats = chats
        self._context = context
        self._request = request
        self._one_call = one_call
        self._progress = Progress()

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
        yield finished

    def _body(self) -> ChatRequest:
        return msgspec.structs.replace(self._request, resume=self._progress.begin_attempt())

    async def _take(self, delta: ChatDelta) -> ChatDelta | None:
        fresh = self._progress.add(first_call_only(delta) if self._one_call else delta)
        if self._progress.checkpoint_due:
            try:
                self._progress.checkpoint(await self._chats.blobs.put(self._progress.snapshot()))
            except MoontideError as error:
                # The answer goes on; the next delta tries again.
                log.warning("checkpoint not stored", extra={"code": error.code})
        return fresh


class Chat:
    """A chat in progress: one choice or several."""

    def __init__(self, context: RequestContext, choices: Sequence[Choice]) -> None:
        self.principal = context.principal
        self._choices = choices
        self._finished: dict[int, ChatFinished] = {}
        self.begun = False
        """Whether anything of an answer has come: from then on there is something to pay for."""
        self.received_bytes = 0
        """Of text and arguments, all choices together."""

    @property
    def ended(self) -> tuple[ChatFinished, ...]:
        """Of the choices that have."""
        return tuple(self._finished.values())

    @property
    def finished(self) -> tuple[ChatFinished, ...]:
        """How each choice ended; empty until all have."""
        whole = len(self._finished) == len(self._choices)
        return tuple(self._finished[index] for index in sorted(self._finished)) if whole else ()

    async def items(self) -> AsyncGenerator[tuple[int, ChatDelta | ChatFinished], None]:
        """(choice, piece of its answer), and one ``ChatFinished`` for each. Closing it cancels the calls."""
        async with aclosing(interleaved([choice.items() for choice in self._choices])) as items:
            async for index, item in items:
                self.begun = True
                if isinstance(item, ChatFinished):
                    self._finished[index] = item
                else:
                    self.received_bytes += size_of(item)
                yield index, item


class Chats:
    def __init__(self, bus: Bus, clock: Clock, blobs: BlobStore, events: RequestEvents, follow: Follow) -> None:
        self.bus = bus
        self.clock = clock
        self.blobs = blobs
        self.follow = follow
        self._events = events

    @asynccontextmanager
    async def accepted(
        self, context: RequestContext, choices: Sequence[ChatRequest], trace_id: str, one_call: bool
    ) -> AsyncIterator[Chat]:
        """The accepted event is out before the block begins; how the block ends decides the terminal record.
        ``one_call``: of several tool calls only the first is passed on. Raises Unavailable when the event cannot be
        written: then nothing was accepted."""
        data = RequestData(
            request_id=context.request_id,
            holder=self.bus.instance,
            model=choices[0].model,
            trace_id=trace_id,
            kind="chat",
        )
        chat = Chat(context, [Choice(self, context, request, one_call) for request in choices])
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


def size_of(delta: ChatDelta) -> int:
    texts = (delta.reasoning, delta.content, *(call.arguments for call in delta.tool_calls))
    return sum(len(text.encode()) for text in texts)


def first_call_only(delta: ChatDelta) -> ChatDelta:
    return msgspec.structs.replace(delta, tool_calls=tuple(call for call in delta.tool_calls if call.index == 0))


def outcome_of(chat: Chat, error: BaseException | None) -> Outcome:
    """A complete answer counts as finished, also when its reader went away during the last write."""
    if chat.finished:
        return "finished"
    if error is None or isinstance(error, asyncio.CancelledError | GeneratorExit | Cancelled):
        return "cancelled"
    return "failed"
