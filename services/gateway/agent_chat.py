"""A chat with an agent: a durable run that is followed from its first event, and told as an OpenAI answer.

Input: a request whose body has become a spec. Output: the response, streamed or whole. The run outlives its reader,
unless the reader wanted otherwise. It must not know how a run is driven.
"""

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass

from aiohttp import web

from schemas.chat import ChatFinished
from schemas.request import Principal, RequestContext
from schemas.runs import RunCommand, RunSpec, RunSummary, StopRun
from schemas.telemetry import ATTR_RUN_ID
from services.gateway.agent_answer import Piece
from services.gateway.agent_body import agent_completion, piece_chunk
from services.gateway.agent_story import AgentStory
from services.gateway.answer import AnswerHead, end_chunk, first_chunk, last_chunks
from services.gateway.answer_body import RunFacts
from services.gateway.config import GatewayConfig
from services.gateway.error_body import json_response
from services.gateway.event_stream import EventStream
from services.gateway.identity import PRINCIPAL, REQUEST_ID, RUN_ID
from services.gateway.limits import Budget
from services.gateway.message_view import Messages
from services.gateway.run_feed import RunFeed
from services.gateway.run_starts import IDEMPOTENCY_KEY, RunStarts
from services.gateway.run_view import output_views
from services.gateway.runs import Runs
from shared.errors import Cancelled, Internal, MoontideError, from_failure
from shared.telemetry.tracing import Span

log = logging.getLogger(__name__)

BUDGET_CODES = "run.budget_"
ENDED_STATUS = 409


@dataclass(frozen=True)
class AgentAsked:
    """What is kept of a body once its media are stored."""

    spec: RunSpec
    model: str
    """As the answer calls it."""
    body_sha256: str
    stream: bool
    include_usage: bool
    stop_on_disconnect: bool


class AgentChats:
    def __init__(
        self, config: GatewayConfig, runs: Runs, starts: RunStarts, messages: Messages, watchers: Budget
    ) -> None:
        self._config = config
        self._runs = runs
        self._starts = starts
        self._messages = messages
        self._watchers = watchers
        self._stopping: set[asyncio.Task[None]] = set()
        self._draining = False

    async def answer(
        self, request: web.Request, events: EventStream, asked: AgentAsked, span: Span
    ) -> web.StreamResponse:
        """Raises what the run is refused with, and how it failed."""
        principal = request[PRINCIPAL]
        with self._watchers.take():
            feed = RunFeed(self._runs, principal, self._config.run_poll_seconds, self._config.run_unreachable_seconds)
            try:
                await self._begun(request, feed, asked, span)
                return await self._told(request, events, feed, asked, span.trace_id)
            except (asyncio.CancelledError, Cancelled):
                if asked.stop_on_disconnect and RUN_ID in request and not self._draining:
                    self._stop(principal, request[RUN_ID])
                raise
            finally:
                await feed.close()

    async def _begun(self, request: web.Request, feed: RunFeed, asked: AgentAsked, span: Span) -> None:
        """The feed listens before the run begins, so that nothing live is missed."""
        context = RequestContext(
            request_id=request[REQUEST_ID],
            principal=request[PRINCIPAL],
            deadline_unix_seconds=0.0,
            traceparent=span.traceparent,
        )
        key = request.headers.get(IDEMPOTENCY_KEY)
        summary = await self._starts.submit(context, asked.spec, key, asked.body_sha256, before=feed.open)
        request[RUN_ID] = summary.run_id
        span.set_attribute(ATTR_RUN_ID, summary.run_id)
        await feed.open(summary.run_id)

    async def _told(
        self, request: web.Request, events: EventStream, feed: RunFeed, asked: AgentAsked, trace_id: str
    ) -> web.StreamResponse:
        clock = self._runs.clock
        head = AnswerHead(request[REQUEST_ID], trace_id, asked.model, int(clock.unix_seconds()), run_id=request[RUN_ID])
        story, started = AgentStory(self._messages), clock.monotonic_seconds()
        pieces: list[Piece] = []
        if asked.stream:
            await self._stream(events, feed, story, head)
        else:
            pieces = await self._gathered(feed, story)
        finished, facts = await self._end(request[PRINCIPAL], request[RUN_ID], story)
        total = clock.monotonic_seconds() - started
        if not asked.stream:
            return json_response(agent_completion(head, pieces, finished, facts, total))
        await events.send(*last_chunks(head, end_chunk(head, finished), [finished], total, asked.include_usage, facts))
        await events.done()
        return events.response

    async def _stream(self, events: EventStream, feed: RunFeed, story: AgentStory, head: AnswerHead) -> None:
        """The first chunk is sent at once: it says the run's id."""
        async with events.kept_alive(self._config.heartbeat_seconds), aclosing(feed.items()) as items:
            await events.send(first_chunk(head))
            async for item in items:
                if pieces := await story.pieces(item):
                    await events.send(*(piece_chunk(head, piece) for piece in pieces))

    async def _gathered(self, feed: RunFeed, story: AgentStory) -> list[Piece]:
        pieces: list[Piece] = []
        async with aclosing(feed.items()) as items:
            async for item in items:
                pieces += await story.pieces(item)
        return pieces

    async def _end(self, principal: Principal, run_id: str, story: AgentStory) -> tuple[ChatFinished, RunFacts]:
        """Raises the error that the run ended with. A budget that is used up is no error: the answer is cut short."""
        ended = story.ended
        if ended is None:
            raise Internal("run.incomplete", "the run's ledger ended without its end")
        failure = ended.failure
        spent = failure is not None and failure.code.startswith(BUDGET_CODES)
        if failure is not None and not spent:
            error = from_failure(failure)
            raise MoontideError(error.code, error.message, status=ENDED_STATUS if error.status == 499 else error.status)
        if ended.outcome != "finished" and not spent:
            raise MoontideError(f"run.{ended.outcome}", f"the run was {ended.outcome}", status=ENDED_STATUS)
        summary = await self._runs.get(principal, run_id)
        cut = spent or (story.last is not None and story.last.finish_reason == "length")
        finished = ChatFinished(
            finish_reason="length" if cut else "stop",
            usage=summary.usage,
            system_fingerprint=story.last.system_fingerprint if story.last is not None else "",
        )
        return finished, run_facts(summary)

    def _stop(self, principal: Principal, run_id: str) -> None:
        """In a task of its own: the request is over."""
        task = asyncio.create_task(self._stop_run(principal, run_id), name="stop run")
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _stop_run(self, principal: Principal, run_id: str) -> None:
        body = StopRun(reason="the client went away")
        try:
            await self._runs.command(
                RunCommand(command_id=f"cmd-gone-{run_id}", run_id=run_id, principal=principal, body=body)
            )
        except MoontideError as error:
            log.warning("a run could not be stopped", extra={"run_id": run_id, "code": error.code})

    def drain(self) -> None:
        """From now on a lost connection is not the client's doing."""
        self._draining = True

    async def settle(self) -> None:
        """Wait for the commands that are still being sent."""
        while self._stopping:
            await asyncio.wait(self._stopping)


def run_facts(summary: RunSummary) -> RunFacts:
    return RunFacts(
        id=summary.run_id,
        status=summary.status,
        steps=summary.step,
        cost_usd=summary.cost_usd,
        files=tuple(file.url for file in output_views(summary)),
    )
