"""A delivered tool job to one outcome: kept as a record first, then published on the job's own subject.

Input: jobs of ``TOOLS_QUEUE``. Output: ``ToolProgress`` every half second, then one ``ToolFinished``, the same one
however often the job is delivered. Must not know how a tool does what it does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from schemas import names
from schemas.codec import decode, encode
from schemas.failure import Failure
from schemas.telemetry import (
    ATTR_ATTEMPT_NUMBER,
    ATTR_FAILURE_CODE,
    ATTR_OPERATION,
    ATTR_RUN_ID,
    ATTR_TOOL_CALL_ID,
    ATTR_TOOL_NAME,
    SPAN_TOOL,
    tool_span,
)
from schemas.tools import ToolCancelled, ToolFinished, ToolJob, ToolProgress, ToolsListed, ToolsQuery
from services.tools.execution import Execution, refused
from services.tools.registry import Registry
from shared.bus.interface import Bus, Job, Subscription
from shared.clock import Clock
from shared.errors import BadInput, Cancelled, DeadlineExceeded, MoontideError, Unavailable
from shared.telemetry.request import request_attributes

if TYPE_CHECKING:
    from shared.blobs.store import BlobStore
    from shared.telemetry.tracing import Telemetry

PROGRESS_SECONDS = 0.5
ATTEMPTS = 3
"""Deliveries in which a tool may say that trying again can help; then the model hears of it."""
ABSENT_ATTEMPTS = 4
ABSENT_SECONDS = 5.0
"""A tool that is not here may be in another process, or its server on its way: so often, and after so long, the job is
left to others before the model hears that there is none."""
OUTCOMES = "tool-outcomes"
STARTS = "tool-starts"
LOG = logging.getLogger("tools")


@dataclass
class Stage:
    """What the call is at, in words."""

    text: str = "taken"

    def enter(self, text: str) -> None:
        self.text = text


@dataclass(frozen=True)
class RunTools:
    """``handle`` for deliveries, ``park`` for those that were delivered too often, ``list`` for whoever asks."""

    bus: Bus
    blobs: "BlobStore"
    execution: Execution
    telemetry: "Telemetry"
    clock: Clock
    absent_seconds: float = ABSENT_SECONDS
    _in_flight: dict[str, asyncio.Event] = field(default_factory=dict)

    async def handle(self, delivery: Job) -> None:
        """Returns when the outcome is kept and published. Raises where trying again can help (the queue delivers
        again), and BadInput (parked) for bytes that are no job."""
        job = _job(delivery)
        async with self._alone(job.call_id):
            outcome = await self.kept(job.call_id)
            if outcome is None:
                self._leave_to_others(job, delivery.attempt_number)
                outcome = await self._once(job, delivery.attempt_number)
        await self._publish(outcome)

    def _leave_to_others(self, job: ToolJob, attempt_number: int) -> None:
        """Raises Unavailable(``tool.absent``) for a tool that is not here, at first."""
        try:
            self.execution.registry.find(job.tool)
        except BadInput as error:
            if attempt_number < ABSENT_ATTEMPTS:
                raise Unavailable("tool.absent", error.message, retry_after_seconds=self.absent_seconds) from error

    async def park(self, delivery: Job, reason: str) -> None:
        """Answers whoever waits for a call that nobody could finish."""
        LOG.error("tool call parked", extra={"subject": delivery.subject, "reason": reason})
        call_id = delivery.subject.rsplit(".", 1)[-1]
        text = "the tool could not be run; the tool service failed repeatedly"
        error: MoontideError = Unavailable("tools.parked", text)
        repeated = False
        try:
            job = _job(delivery)
            repeated = self._effect(job) == "outside" and await self.blobs.get_record(STARTS, call_id) is not None
        except BadInput as malformed:
            error = malformed
        outcome = await self.kept(call_id) or await self._keep(refused(call_id, error, repeated=repeated))
        await self._publish(outcome)

    async def kept(self, call_id: str) -> ToolFinished | None:
        """The outcome that an earlier delivery came to."""
        data = await self.blobs.get_record(OUTCOMES, call_id)
        return None if data is None else decode(data, ToolFinished)

    async def _once(self, job: ToolJob, attempt_number: int) -> ToolFinished:
        with self.telemetry.span(
            tool_span(job.tool),
            parent=job.context.traceparent,
            kind="consumer",
            attributes=request_attributes(job.context)
            | {
                ATTR_OPERATION: SPAN_TOOL,
                ATTR_RUN_ID: job.run_id,
                ATTR_TOOL_NAME: job.tool,
                ATTR_TOOL_CALL_ID: job.call_id,
                ATTR_ATTEMPT_NUMBER: attempt_number,
            },
        ) as span:
            outcome = await self._keep(await self._performed(job, attempt_number))
            if outcome.failure is not None:
                span.set_attribute(ATTR_FAILURE_CODE, outcome.failure.code)
            return outcome

    async def _performed(self, job: ToolJob, attempt_number: int) -> ToolFinished:
        outside = self._effect(job) == "outside"
        repeated = outside and await self._started_before(job.call_id)
        stage = Stage()
        try:
            async with self._watched(job, stage) as stopping:
                return await stopping.unless(self.execution.perform(job, stage.enter, repeated=repeated))
        except MoontideError as error:
            if error.retryable and attempt_number < ATTEMPTS and not outside:
                raise
            return refused(job.call_id, error, repeated=repeated)

    def _effect(self, job: ToolJob) -> str:
        try:
            return self.execution.registry.find(job.tool).declaration.effect
        except BadInput:
            return "none"

    async def _started_before(self, call_id: str) -> bool:
        """Whether another delivery may have had the effect already: the intent of the first one is kept first."""
        mine = f"{self.bus.instance} {self.clock.unix_seconds()} {id(object())}".encode()
        return await self.blobs.keep_record(STARTS, call_id, mine) != mine

    async def _keep(self, outcome: ToolFinished) -> ToolFinished:
        return decode(await self.blobs.keep_record(OUTCOMES, outcome.call_id, encode(outcome)), ToolFinished)

    async def _publish(self, outcome: ToolFinished | ToolProgress) -> None:
        await self.bus.publish(names.tool_outcome(outcome.call_id), encode(outcome))

    @asynccontextmanager
    async def _alone(self, call_id: str) -> AsyncIterator[None]:
        """A second delivery waits for the first one here, and finds its outcome."""
        while (other := self._in_flight.get(call_id)) is not None:
            await other.wait()
        over = self._in_flight[call_id] = asyncio.Event()
        try:
            yield
        finally:
            del self._in_flight[call_id]
            over.set()

    @asynccontextmanager
    async def _watched(self, job: ToolJob, stage: Stage) -> AsyncIterator["Stopping"]:
        """Tells twice a second that somebody works on the call, and hears when nobody wants it any more."""
        control = await self.bus.subscribe(names.tool_control(job.call_id), max_pending=64)
        seconds = job.context.deadline_unix_seconds - self.clock.unix_seconds()
        beats = asyncio.create_task(self._beat(job.call_id, stage))
        try:
            yield Stopping(control, seconds, self.clock)
        finally:
            beats.cancel()
            await asyncio.wait([beats])
            await control.close()

    async def _beat(self, call_id: str, stage: Stage) -> None:
        while True:
            try:
                await self._publish(ToolProgress(call_id=call_id, text=stage.text))
            except MoontideError as error:
                LOG.warning("progress not published", extra={"code": error.code})
            await self.clock.sleep(PROGRESS_SECONDS)


@dataclass(frozen=True)
class Stopping:
    """Why a call may end before its tool is done."""

    control: Subscription
    seconds: float
    clock: Clock

    async def unless(self, work: Coroutine[Any, Any, ToolFinished]) -> ToolFinished:
        """The result of ``work``, which is cancelled and over when this raises Cancelled(``tool.cancelled``) or
        DeadlineExceeded(``tool.deadline``)."""
        working = asyncio.ensure_future(work)
        reasons = [asyncio.create_task(self._cancelled()), asyncio.create_task(self._late())]
        try:
            await asyncio.wait([working, *reasons], return_when=asyncio.FIRST_COMPLETED)
        finally:
            if over := not working.done():
                working.cancel()
                await asyncio.wait([working])
            for reason in reasons:
                reason.cancel()
            await asyncio.wait(reasons)
        if not over or not working.cancelled():
            return working.result()
        raise next(reason.result() for reason in reasons if not reason.cancelled())

    async def _cancelled(self) -> MoontideError:
        with suppress(MoontideError):  # nothing more can be heard: the deadline is left
            async for data in self.control:
                with suppress(msgspec.MsgspecError):
                    return Cancelled("tool.cancelled", decode(data, ToolCancelled).reason or "the call was cancelled")
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")

    async def _late(self) -> MoontideError:
        await self.clock.sleep(max(self.seconds, 0.0))
        return DeadlineExceeded("tool.deadline", "the tool did not end before the run's deadline")


@dataclass(frozen=True)
class ListTools:
    registry: Registry

    async def answer(self, data: bytes) -> bytes:
        try:
            decode(data, ToolsQuery)
        except msgspec.MsgspecError:
            return encode(Failure(code="tools.malformed", message="not a question about tools", status=400))
        return encode(ToolsListed(tools=self.registry.declarations()))


def _job(delivery: Job) -> ToolJob:
    try:
        job = decode(delivery.data, ToolJob)
    except msgspec.MsgspecError as error:
        raise BadInput("tools.malformed", "not a tool job") from error
    if names.tool_requested(job.call_id) != delivery.subject:
        raise BadInput("tools.malformed", "a tool job on a subject that is not its call's")
    return job
