"""The runs that this process owns: taken from wake-ups, driven as tasks, left when the process stops.

Input: wake-ups. Output: ``LeaseTaken`` in a run's ledger, then a beat until the run is over or left. Whoever finds
itself fenced drops the run without a word: another owner has it. It must not know what a run does.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

from schemas.codec import decode
from schemas.failure import Failure
from schemas.runs import RunEnded, RunWake
from services.coordinator.agent import Agent
from services.coordinator.desk import Desk
from services.coordinator.live import Live
from services.coordinator.owned_run import OwnedRun
from services.coordinator.preparation import load
from services.coordinator.queue import wake
from shared.bus.interface import Job
from shared.errors import BadInput, Busy, MoontideError, NotFound
from shared.ledger.journal import Fenced
from shared.ledger.leases import Leases
from shared.ledger.records import ended_record

log = logging.getLogger("coordinator")

FULL_WAIT_SECONDS = 0.5
FULL_RETRY_SECONDS = 0.1
TAKING_PAUSE_SECONDS = 0.05
MAX_FRUITLESS_TERMS = 20
POISON = Failure(
    code="run.poison", message="the run was ended: whoever took it died before anything came of it", status=500
)
WAKE_TRIES = 4
WAKE_PAUSE_SECONDS = 0.5


class Ownership:
    def __init__(self, desk: Desk, leases: Leases) -> None:
        self._desk = desk
        self._leases = leases
        self._agents: dict[str, Agent | None] = {}
        """None: the run is being taken."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._left = asyncio.Event()
        """A run has left this process."""

    @property
    def runs(self) -> int:
        return len(self._agents)

    async def handle(self, job: Job) -> None:
        """One wake-up: when this returns it is acknowledged. Raises Busy where another process should take the run."""
        try:
            run_id = decode(job.data, RunWake).run_id
        except msgspec.MsgspecError as error:
            raise BadInput("run.malformed", "not a wake-up") from error
        if run_id not in self._agents and not await self._has_room():
            raise Busy("run.full", "this coordinator drives enough runs", retry_after_seconds=FULL_RETRY_SECONDS)
        await self._desk.order.confirmations(lambda: self._take(run_id), _nothing)

    async def _has_room(self) -> bool:
        """Waits a little for it: a full process that refused at once would be asked again and again."""
        if not self._draining and len(self._agents) >= self._desk.config.max_runs:
            self._left.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(FULL_WAIT_SECONDS):
                    await self._left.wait()
        return not self._draining and len(self._agents) < self._desk.config.max_runs

    async def _take(self, run_id: str) -> None:
        """The lease is in the ledger when this returns, or the run needs no owner."""
        if run_id in self._agents:
            return
        self._agents[run_id] = None
        run: OwnedRun | None = None
        try:
            if await self._leases.holder(run_id) is None:
                run = await self._lease(run_id)
        except (Fenced, NotFound) as error:
            log.info("run not taken", extra={"run_id": run_id, "code": error.code})
        finally:
            if run is None:
                del self._agents[run_id]
        if run is not None:
            agent = self._agents[run_id] = Agent(self._desk, run)
            task = asyncio.create_task(self._drive(agent, run), name=run_id)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _lease(self, run_id: str) -> OwnedRun | None:
        """The run with its lease taken; None when it has ended. Raises Fenced when another process was first."""
        desk, owner = self._desk, self._desk.bus.instance
        state, trail = await load(desk, run_id)
        if state.ended:
            return None
        writer = desk.ledger.writer(run_id, owner, state.place.term + 1, state.last_sequence)
        run = OwnedRun(state, trail, writer, Live(desk.bus, desk.clock, run_id), desk.clock)
        poison = state.status == "running" and state.fruitless_terms >= MAX_FRUITLESS_TERMS
        run.take(owner)
        if poison:
            run.foresee(RunEnded(outcome="failed", failure=POISON))
        await run.record()
        return None if poison else run

    async def _drive(self, agent: Agent, run: OwnedRun) -> None:
        again = True
        try:
            held = self._leases.held(run.run_id, self._desk.bus.instance, run.term, on_lost=agent.drain)
            async with held:
                again = await self._driven(agent, run)
                await self._announce(run)
        finally:
            self._agents.pop(run.run_id, None)
            self._left.set()
        if again:
            await self._wake(run.run_id)

    async def _driven(self, agent: Agent, run: OwnedRun) -> bool:
        """Whether the run needs another owner."""
        if self._draining:
            agent.drain()
        try:
            await agent.drive()
            return not run.state.ended
        except Fenced:
            log.info("run dropped: another owner has it", extra={"run_id": run.run_id})
            return False
        except MoontideError as error:
            log.error("run left", extra={"run_id": run.run_id, "code": error.code, "reason": error.message})
            return error.retryable or not await self._fail(run)
        except Exception:
            log.exception("run broke", extra={"run_id": run.run_id})
            return not await self._fail(run)

    async def _fail(self, run: OwnedRun) -> bool:
        """The terminal record of a run that our own mistake has ended; False when it could not be written."""
        failure = Failure(code="internal", message="an internal error ended the run", status=500)
        try:
            state, trail = await load(self._desk, run.run_id)
            if not state.ended:
                ending = run.resumed(state, trail)
                ending.foresee(RunEnded(outcome="failed", failure=failure))
                await ending.record()
        except MoontideError as error:
            log.error("run not ended", extra={"run_id": run.run_id, "code": error.code})
            return isinstance(error, Fenced)
        return True

    async def _announce(self, run: OwnedRun) -> None:
        """The terminal record for others; failing that the sweeper writes it."""
        ended = ended_record(run.state)
        if ended is not None and run.recorded:
            with suppress(MoontideError):
                await self._desk.events.record_terminal(*ended)

    async def _wake(self, run_id: str) -> None:
        """Somebody else takes the run at once; failing that the sweeper finds it."""
        for _ in range(WAKE_TRIES):
            try:
                await wake(self._desk.bus, run_id)
                return
            except MoontideError as error:
                log.warning("run not woken", extra={"run_id": run_id, "code": error.code})
            await self._desk.clock.sleep(WAKE_PAUSE_SECONDS)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """On exit every run is left at a clean point, and woken for others."""
        try:
            yield
        finally:
            self._draining = True
            for agent in self._agents.values():
                if agent is not None:
                    agent.drain()
            while self._agents or self._tasks:
                if self._tasks:
                    await asyncio.wait(self._tasks)
                else:  # a run is just being taken
                    await self._desk.clock.sleep(TAKING_PAUSE_SECONDS)


async def _nothing() -> None:
    """What follows from a lease is the acknowledgement, which the queue does."""
