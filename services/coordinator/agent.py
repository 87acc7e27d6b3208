"""The agent loop: one run, driven by its owner from moment to moment.

A moment: what has happened becomes events (``reactions.py``, ``orders.py``), what follows from them is decided
(``step.py``) and intended (``intents.py``) until something has to be waited for, all of it is one append, and only then
model and tools are asked (``effects.py``). Input: an owned run. Output: entries in its ledger, until it has ended, is
left to another owner, or ``Fenced`` says that it has one.
"""

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import assert_never

from schemas.blobs import Payload
from schemas.runs import RunWaiting
from services.coordinator import budget, request
from services.coordinator.desk import Desk
from services.coordinator.effects import Effects
from services.coordinator.happenings import (
    Commanded,
    Draining,
    Happening,
    Measured,
    ModelRefused,
    ModelSaid,
    NotPrepared,
    Prepared,
    ToolBroke,
    ToolDone,
)
from services.coordinator.intents import Intents
from services.coordinator.jobs import job_of
from services.coordinator.orders import Orders
from services.coordinator.owned_run import OwnedRun
from services.coordinator.preparation import overhead_bytes, prepare
from services.coordinator.reactions import Reactions
from services.coordinator.run_spans import RunSpans
from services.coordinator.step import (
    AwaitModel,
    Decision,
    End,
    Limits,
    Measure,
    Over,
    Rest,
    RunCalls,
    Situation,
    decide,
)
from shared.errors import MoontideError
from shared.ledger.commands import untaken

log = logging.getLogger("coordinator")

MAX_HAPPENINGS = 1024
PREPARE_AGAIN_SECONDS = 1.0
DRAIN_SECONDS = 5.0
"""How long a model call in flight may take when this process stops; then the next owner asks again."""
MAX_SLEEP_SECONDS = 3600.0


class Agent:
    def __init__(self, desk: Desk, run: OwnedRun) -> None:
        self._desk = desk
        self._run = run
        self._inbox: asyncio.Queue[Happening] = asyncio.Queue(MAX_HAPPENINGS)
        self._effects = Effects(desk, run.live, self._inbox, run.run_id)
        self._reactions = Reactions(desk, run)
        self._orders = Orders(run, self._effects, self._reactions)
        self._intents = Intents(desk, run, self._reactions)
        self._spans = RunSpans(desk.telemetry, run.state, run.term)
        self._limits: Limits | None = None
        self._tools: Payload = b""
        self._preparing: asyncio.Task[None] | None = None
        self._prepare_at = 0.0
        self._leave_at: float | None = None
        self._inherited = frozenset(call.call_id for call in run.state.open_calls)

    def drain(self) -> None:
        """Leave the run at its next clean point."""
        self._leave_at = self._now() + DRAIN_SECONDS
        with suppress(asyncio.QueueFull):  # then the loop is awake anyway
            self._inbox.put_nowait(Draining())

    async def drive(self) -> None:
        """Returns when the run has ended or is to be left. Raises Fenced when another owner has it."""
        following = asyncio.create_task(self._follow_commands(), name=f"commands-{self._run.run_id}")
        try:
            with self._spans:
                while (decision := await self._moment()) is not None:
                    await self._happen(decision)
        finally:
            following.cancel()
            if self._preparing is not None:
                self._preparing.cancel()
            await self._effects.leave()
            await self._run.live.close()

    async def _moment(self) -> Decision | None:
        """Decides, records, and begins what follows. Returns what to wait for; None: nothing is left to do here."""
        decision = await self._settle()
        await self._desk.order.effects(self._run.record, partial(self._begin, decision))
        return None if isinstance(decision, Over) or self._may_leave() else decision

    async def _settle(self) -> Decision:
        """Foresees every decision that can be taken without waiting."""
        while True:
            decision = self._decide()
            if self._leave_at is not None or not await self._intents.foresee(decision):
                return decision

    def _decide(self) -> Decision:
        if self._limits is not None:
            return decide(self._situation(self._limits))
        state = self._run.state
        if state.ended:
            return Over()
        deadline = state.created_unix_seconds + state.spec.budget.max_seconds
        if self._now() >= deadline:
            return End(failure=budget.late(state.spec.budget))
        return Rest(until_unix_seconds=deadline if self._preparing else min(deadline, self._prepare_at))

    async def _begin(self, decision: Decision) -> None:
        """Everything that is begun here has its intent in the ledger."""
        if isinstance(decision, Over):
            await self._effects.cancel(call.call_id for call in self._run.state.open_calls)
        elif self._leave_at is not None:
            return
        elif self._limits is None:
            self._begin_preparing()
        elif isinstance(decision, AwaitModel):
            self._begin_model(self._situation(self._limits))
        elif isinstance(decision, Measure):
            self._begin_measure(self._situation(self._limits))
        elif isinstance(decision, RunCalls):
            self._begin_tools(decision, self._situation(self._limits))

    def _begin_preparing(self) -> None:
        if self._preparing is None and self._now() >= self._prepare_at:
            self._preparing = asyncio.create_task(self._prepare(), name=f"prepare-{self._run.run_id}")

    def _begin_model(self, now: Situation) -> None:
        if self._effects.model_in_flight:
            return
        place = now.state.place
        make = request.summary_request if place.summarising else request.step_request
        context = request.call_context(now, self._spans.traceparent(), summary=place.summarising)
        asked = make(now, self._tools)
        self._effects.ask_model(asked, context, place.step, place.attempt, summary=place.summarising)

    def _begin_measure(self, now: Situation) -> None:
        asked = request.step_request(now, self._tools)
        context = request.call_context(now, self._spans.traceparent())
        self._effects.measure(asked, context, len(now.state.conversation.turns))

    def _begin_tools(self, decision: RunCalls, now: Situation) -> None:
        for call in decision.calls:
            if call.call_id not in self._effects.tools_in_flight:
                job = job_of(call, now, self._spans.traceparent())
                self._effects.run_tool(job, call.step, known=call.call_id in self._inherited)

    async def _happen(self, decision: Decision) -> None:
        """Waits for the next happening, or until it is time to decide again; then takes all that there are."""
        try:
            async with asyncio.timeout(self._sleep_seconds(decision)):
                happening = await self._inbox.get()
        except TimeoutError:
            return
        await self._react(happening)
        while not self._inbox.empty():
            await self._react(self._inbox.get_nowait())

    def _sleep_seconds(self, decision: Decision) -> float:
        state = self._run.state
        until = state.created_unix_seconds + state.spec.budget.max_seconds
        if isinstance(decision, Rest):
            until = min(until, decision.until_unix_seconds)
        if self._leave_at is not None:
            until = min(until, self._leave_at)
        return min(max(until - self._now(), 0.0), MAX_SLEEP_SECONDS)

    async def _react(self, happening: Happening) -> None:
        self._effects.take(happening)
        if self._run.state.ended:
            return
        match happening:
            case Prepared() as prepared:
                self._take_preparation(prepared)
            case NotPrepared(error=error):
                self._wait_for_preparation(error)
            case ModelSaid() as said:
                assert self._limits is not None, "the model was asked with limits"
                await self._reactions.model_said(said, self._limits)
            case ModelRefused() as refused:
                await self._reactions.model_refused(refused)
            case Measured(message_count=count, prompt_tokens=tokens):
                if count == len(self._run.state.conversation.turns):
                    self._run.trail.gauge.measured(tokens)
            case ToolDone(finished=finished):
                await self._reactions.tool_done(finished)
            case ToolBroke(call_id=call_id, error=error):
                await self._reactions.answer_in_words(call_id, error.to_failure())
            case Commanded(command=command):
                await self._orders.obey(command)
            case Draining():
                pass  # the loop sees to it
            case _:
                assert_never(happening)

    def _take_preparation(self, prepared: Prepared) -> None:
        self._preparing = None
        self._limits, self._tools = prepared.limits, prepared.tools
        self._run.trail.gauge.set_overhead(overhead_bytes(self._run.state.spec, prepared.limits.catalogue))

    def _wait_for_preparation(self, error: MoontideError) -> None:
        """Visible once; what cannot come right ends the run."""
        self._preparing = None
        self._prepare_at = self._now() + (error.retry_after_seconds or PREPARE_AGAIN_SECONDS)
        state, failure = self._run.state, error.to_failure()
        if not error.retryable and error.status < 500:
            self._reactions.end(failure)
        elif state.waiting != failure and state.status in ("running", "waiting") and not state.approvals:
            self._run.foresee(RunWaiting(failure=failure))

    async def _prepare(self) -> None:
        await self._inbox.put(await prepare(self._desk, self._run.state))

    async def _follow_commands(self) -> None:
        """Into the inbox, those first that no owner has taken. A command that comes twice is taken once."""
        commands = self._desk.commands
        while True:
            try:
                known = await commands.read(self._run.run_id)
                fresh = untaken(known, self._run.state.taken_commands)
                after = fresh[0].sequence - 1 if fresh else known[-1].sequence if known else 0
                async for numbered in commands.follow(self._run.run_id, after):
                    await self._inbox.put(Commanded(numbered.command))
            except MoontideError as error:
                log.warning("commands not followed", extra={"run_id": self._run.run_id, "code": error.code})
            await self._desk.clock.sleep(PREPARE_AGAIN_SECONDS)

    def _may_leave(self) -> bool:
        if self._leave_at is None:
            return False
        return not self._effects.model_in_flight or self._now() >= self._leave_at

    def _situation(self, limits: Limits) -> Situation:
        return Situation(self._run.state, self._run.trail, limits, self._now(), self._reactions.refusals)

    def _now(self) -> float:
        return self._desk.clock.unix_seconds()
