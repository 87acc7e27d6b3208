"""One call of ``chat.<model>``: followed, resumed, and shown live as it streams.

Input: a ``ChatRequest`` and its context. Output: the whole ``Answer``. What was received outlives an interruption, so
that asking again continues behind it, where the model's side can; elsewhere it begins anew. It must not know what the
answer is for.
"""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Protocol

import msgspec

from schemas import names
from schemas.chat import ChatDelta, ChatItem, ChatRequest, CountRequest, TokensCounted
from schemas.request import RequestContext
from services.coordinator import refusal
from services.coordinator.answer import Answer
from shared.blobs.store import BlobStore
from shared.bus.interface import Bus
from shared.calls.follow import follow
from shared.calls.interface import CallPolicy, CallTarget
from shared.clock import Clock
from shared.errors import Internal, MoontideError

log = logging.getLogger("coordinator")

POLICY = CallPolicy(wait_for_first_responder=False, recovery_seconds=3.0, attempts=2)
"""What lasts longer than this is a state that people see, and is waited for there."""


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """What is new of an answer, and how many characters of it came before."""

    delta: ChatDelta
    reasoning_start: int
    content_start: int


Hear = Callable[[Piece], None]


class Follow(Protocol):
    """The shape of ``shared.calls.follow.follow``."""

    def __call__(
        self, bus: Bus, clock: Clock, target: CallTarget, make_body: Callable[[], msgspec.Struct], item_type: Any, /
    ) -> AsyncGenerator[Any, None]: ...


class ModelCall:
    def __init__(self, bus: Bus, clock: Clock, blobs: BlobStore, request: ChatRequest, hear: Hear) -> None:
        self._bus = bus
        self._clock = clock
        self._blobs = blobs
        self._request = request
        self._hear = hear
        self._begin_anew()

    async def ask(self, context: RequestContext, follow: Follow = follow) -> Answer:
        """The whole answer. Raises what the model's side refused or failed with; asked again, it goes on."""
        try:
            return await self._follow(context, follow)
        except MoontideError as error:
            if refusal.starts_over(error):
                self._begin_anew()
            raise

    def _begin_anew(self) -> None:
        self._answer = Answer()
        self._reasoning = 0
        self._content = 0

    async def _follow(self, context: RequestContext, follow: Follow) -> Answer:
        target = CallTarget(subject=names.chat(self._request.model), context=context, policy=POLICY)
        items = follow(self._bus, self._clock, target, self._body, ChatItem)
        async with aclosing(items):
            async for item in items:
                fresh = self._answer.take(item)
                if fresh is not None:
                    self._tell(fresh)
                    await self._checkpoint()
        if self._answer.finished is None:
            raise Internal("chat.incomplete", "the answer ended without its last item")
        return self._answer

    def _tell(self, fresh: ChatDelta) -> None:
        self._hear(Piece(delta=fresh, reasoning_start=self._reasoning, content_start=self._content))
        self._reasoning += len(fresh.reasoning)
        self._content += len(fresh.content)

    def _body(self) -> ChatRequest:
        return msgspec.structs.replace(self._request, resume=self._answer.progress.begin_attempt())

    async def _checkpoint(self) -> None:
        progress = self._answer.progress
        if progress.checkpoint_due:
            try:
                progress.checkpoint(await self._blobs.put(progress.snapshot()))
            except MoontideError as error:
                log.warning("checkpoint not stored", extra={"code": error.code})  # the next delta tries again


async def count_tokens(bus: Bus, clock: Clock, context: RequestContext, request: ChatRequest) -> int | None:
    """Prompt tokens as the model's tokenizer counts them. Raises what it refuses, Unavailable when it is not there."""
    target = CallTarget(subject=names.count(request.model), context=context, policy=POLICY)
    counting = CountRequest(chat=request)
    counted: TokensCounted | None = None
    async with aclosing(follow(bus, clock, target, lambda: counting, TokensCounted)) as items:
        async for item in items:
            counted = item
    return None if counted is None else counted.prompt_tokens
