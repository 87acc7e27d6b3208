"""What a run has in flight in this process: at most one model call, and tool calls. Each is a task that ends in one
happening in the run's inbox.

Input: requests and jobs whose intent is in the ledger. Output: happenings. Leaving them behind is safe: a tool's
outcome is on record, a model call is asked again. It must not know what follows from a happening.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import TypeVar

import msgspec

from schemas.chat import ChatRequest
from schemas.request import RequestContext
from schemas.telemetry import (
    ATTR_ATTEMPT_NUMBER,
    ATTR_CACHED_TOKENS,
    ATTR_FINISH_REASONS,
    ATTR_INPUT_TOKENS,
    ATTR_MODEL,
    ATTR_OPERATION,
    ATTR_OUTPUT_TOKENS,
    ATTR_RUN_ID,
    ATTR_RUN_STEP,
    ATTR_TOOL_CALL_ID,
    ATTR_TOOL_NAME,
    ATTR_USAGE_COUNTS,
    SPAN_CHAT,
    SPAN_TOOL,
    tool_span,
)
from schemas.tools import ToolFinished, ToolJob
from services.coordinator.answer import Answer
from services.coordinator.desk import Desk
from services.coordinator.happenings import Happening, Measured, ModelRefused, ModelSaid, ToolBroke, ToolDone
from services.coordinator.live import Live
from services.coordinator.model_call import ModelCall, Piece, count_tokens
from shared.errors import Internal, MoontideError
from shared.telemetry.request import request_attributes
from shared.telemetry.span import Span

log = logging.getLogger("coordinator")

T = TypeVar("T")
INTERRUPTED_SECONDS = 1.0
"""Before a tool call is made again that the bus interrupted."""
CallKey = tuple[int, int, bool]
"""Step, messages, whether for a summary: what makes a model call the same one, asked again."""


class Effects:
    def __init__(self, desk: Desk, live: Live, inbox: "asyncio.Queue[Happening]", run_id: str) -> None:
        self._desk = desk
        self._live = live
        self._inbox = inbox
        self._run_id = run_id
        self._model: asyncio.Task[None] | None = None
        self._call: tuple[CallKey, ModelCall] | None = None
        self._place = (0, 0, False)
        self._measuring: asyncio.Task[None] | None = None
        self._tools: dict[str, asyncio.Task[None]] = {}

    @property
    def model_in_flight(self) -> bool:
        """Until its happening was taken: an answer that waits in the inbox is not asked for again."""
        return self._model is not None

    @property
    def tools_in_flight(self) -> frozenset[str]:
        """As for the model."""
        return frozenset(self._tools)

    def take(self, happening: Happening) -> None:
        """What it tells of is not in flight any more."""
        match happening:
            case ModelSaid() | ModelRefused():
                if self._place == (happening.step, happening.attempt, happening.summary):
                    self._model = None
            case ToolDone(finished=finished):
                self._tools.pop(finished.call_id, None)
            case ToolBroke(call_id=call_id):
                self._tools.pop(call_id, None)
            case _:
                pass

    def ask_model(
        self, request: ChatRequest, context: RequestContext, step: int, attempt: int, *, summary: bool
    ) -> None:
        """Asked again after an interruption, the call continues behind what was received."""
        key = (step, len(request.messages), summary)
        if self._call is None or self._call[0] != key:
            self._call = key, ModelCall(self._desk.bus, self._desk.clock, self._desk.blobs, request, self._hear)
        self._place = (step, attempt, summary)
        asking = self._ask(self._call[1], request, context, step, attempt, summary)
        self._model = asyncio.create_task(asking, name=f"model-{self._run_id}-{step}")

    def measure(self, request: ChatRequest, context: RequestContext, message_count: int) -> None:
        """How many tokens the prompt of a request has: costs nothing and changes nothing, so it has no intent."""
        if self._measuring is None or self._measuring.done():
            measuring = self._measure(request, context, message_count)
            self._measuring = asyncio.create_task(measuring, name=f"measure-{self._run_id}")

    async def _measure(self, request: ChatRequest, context: RequestContext, message_count: int) -> None:
        tokens: int | None = None
        try:
            tokens = await _guarded(count_tokens(self._desk.bus, self._desk.clock, context, request))
        except MoontideError as error:
            log.info("tokens not counted", extra={"run_id": self._run_id, "code": error.code})
        await self._inbox.put(Measured(message_count, tokens))

    def forget_model(self) -> None:
        """Give up the call in flight, and what was received of it."""
        if self._model is not None:
            self._model.cancel()
        self._model = self._call = None

    def run_tool(self, job: ToolJob, step: int, *, known: bool) -> None:
        running = self._run_tool(job, step, known)
        self._tools[job.call_id] = asyncio.create_task(running, name=f"tool-{job.call_id}")

    async def cancel(self, call_ids: Iterable[str]) -> None:
        """Whoever works on these calls, for this owner or the one before, is told that nobody wants them any more."""
        await self.leave()
        for call_id in call_ids:
            try:
                await self._desk.tools.cancel(call_id)
            except MoontideError as error:
                log.warning("tool not cancelled", extra={"call_id": call_id, "code": error.code})

    async def leave(self) -> None:
        """End the tasks of this process. Tools work on: the next owner finds their outcomes on record."""
        tasks = [task for task in (self._model, self._measuring, *self._tools.values()) if task is not None]
        self._model = None
        self._tools.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _ask(
        self, call: ModelCall, request: ChatRequest, context: RequestContext, step: int, attempt: int, summary: bool
    ) -> None:
        started = self._desk.clock.monotonic_seconds()
        attributes = request_attributes(context) | {
            ATTR_OPERATION: "chat",
            ATTR_MODEL: request.model,
            ATTR_RUN_ID: self._run_id,
            ATTR_RUN_STEP: step,
            ATTR_ATTEMPT_NUMBER: attempt,
        }
        try:
            with self._desk.telemetry.span(
                SPAN_CHAT, parent=context.traceparent, kind="client", attributes=attributes
            ) as span:
                answer = await _guarded(call.ask(_inside(context, span)))
                _describe(span, answer)
        except MoontideError as error:
            await self._inbox.put(ModelRefused(step, attempt, error, summary))
            return
        seconds = self._desk.clock.monotonic_seconds() - started
        self._call = None
        await self._inbox.put(ModelSaid(step, attempt, answer, seconds, summary))

    def _hear(self, piece: Piece) -> None:
        step, attempt, _ = self._place
        self._live.piece(step, attempt, piece)

    async def _run_tool(self, job: ToolJob, step: int, known: bool) -> None:
        attributes = request_attributes(job.context) | {
            ATTR_OPERATION: SPAN_TOOL,
            ATTR_TOOL_NAME: job.tool,
            ATTR_TOOL_CALL_ID: job.call_id,
            ATTR_RUN_ID: self._run_id,
            ATTR_RUN_STEP: step,
        }
        parent = job.context.traceparent
        try:
            with self._desk.telemetry.span(
                tool_span(job.tool), parent=parent, kind="client", attributes=attributes
            ) as span:
                finished = await self._outcome(_traced(job, span), step, known)
        except MoontideError as error:
            await self._inbox.put(ToolBroke(job.call_id, error))
        else:
            await self._inbox.put(ToolDone(finished))

    async def _outcome(self, job: ToolJob, step: int, known: bool) -> ToolFinished:
        """However long the bus is away: a call whose intent is recorded is made."""

        async def tell(text: str) -> None:
            await self._live.progress(step, job.call_id, text)

        while True:
            try:
                return await _guarded(self._desk.tools.run(job, tell, known=known))
            except MoontideError as error:
                if not error.retryable:
                    raise
                log.warning("tool call interrupted", extra={"call_id": job.call_id, "code": error.code})
            known = True
            await self._desk.clock.sleep(INTERRUPTED_SECONDS)


async def _guarded(work: Coroutine[None, None, T]) -> T:
    """Raises a MoontideError, whatever went wrong."""
    try:
        return await work
    except MoontideError:
        raise
    except Exception as error:
        log.exception("a run's effect failed")
        raise Internal("internal", "an internal error occurred") from error


def _inside(context: RequestContext, span: Span) -> RequestContext:
    return msgspec.structs.replace(context, traceparent=span.traceparent)


def _traced(job: ToolJob, span: Span) -> ToolJob:
    return msgspec.structs.replace(job, context=_inside(job.context, span))


def _describe(span: Span, answer: Answer) -> None:
    assert answer.finished is not None, "an answer is whole"
    usage = answer.finished.usage
    span.set_attribute(ATTR_INPUT_TOKENS, usage.prompt_tokens)
    span.set_attribute(ATTR_OUTPUT_TOKENS, usage.completion_tokens)
    span.set_attribute(ATTR_CACHED_TOKENS, usage.cached_tokens)
    span.set_attribute(ATTR_FINISH_REASONS, (answer.finished.finish_reason,))
    span.set_attribute(ATTR_USAGE_COUNTS, True)
