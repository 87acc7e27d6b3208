"""Durable runs as the gateway asks for them: questions to any coordinator, each tried again within bounds.

Input: who asks, ids, specs. Output: what coordinators answer, or their refusal as an error. Everything here may be sent
twice: a run id names one run, a command id one command. It must not know HTTP or what events mean.
"""

from collections import Counter
from typing import Any

import msgspec

from schemas import codec, names
from schemas.failure import Failure
from schemas.request import Principal
from schemas.runs import (
    CommandStored,
    EntriesListed,
    EntriesQuery,
    NumberedEntry,
    RunCommand,
    RunQuery,
    RunsListed,
    RunsQuery,
    RunStatus,
    RunSubmitted,
    RunSummary,
)
from schemas.tools import ToolsListed, ToolsQuery
from shared.bus.interface import Bus
from shared.clock import Clock
from shared.errors import Internal, Unavailable, from_failure

ATTEMPTS = 3
PAUSE_SECONDS = 0.25
RETRY_AFTER_SECONDS = 2.0
PAGE_ENTRIES = 256
PAGE_RUNS = 100
MAX_PAGES = 100

GOING: tuple[RunStatus, ...] = ("queued", "running", "waiting", "paused")


class Runs:
    """Methods raise Unavailable(``run.no_coordinator``) when none answers, and NotFound(``run.not_found``) also for
    the runs of other tenants."""

    def __init__(self, bus: Bus, clock: Clock, timeout_seconds: float) -> None:
        self.bus = bus
        self.clock = clock
        self._timeout_seconds = timeout_seconds

    async def submit(self, submitted: RunSubmitted) -> RunSummary:
        return await self._ask(names.SUBJECT_RUN_SUBMIT, submitted, RunSummary)

    async def get(self, principal: Principal, run_id: str) -> RunSummary:
        return await self._ask(names.SUBJECT_RUN_GET, RunQuery(run_id=run_id, principal=principal), RunSummary)

    async def list(self, query: RunsQuery) -> RunsListed:
        return await self._ask(names.SUBJECT_RUN_LIST, query, RunsListed)

    async def going(self, principal: Principal) -> Counter[str]:
        """Runs of the tenant that have not ended, by key id."""
        counted: Counter[str] = Counter()
        for status in GOING:
            query = RunsQuery(principal=principal, limit=PAGE_RUNS, status=status)
            for _ in range(MAX_PAGES):
                listed = await self.list(query)
                counted.update(summary.principal.key_id for summary in listed.runs)
                if not (listed.more and listed.runs):
                    break
                query = msgspec.structs.replace(query, before=listed.runs[-1].run_id)
        return counted

    async def command(self, command: RunCommand) -> CommandStored:
        return await self._ask(names.SUBJECT_RUN_COMMAND, command, CommandStored)

    async def entries(self, principal: Principal, run_id: str, after: int, limit: int = PAGE_ENTRIES) -> EntriesListed:
        query = EntriesQuery(run_id=run_id, principal=principal, after_sequence=after, limit=limit)
        return await self._ask(names.SUBJECT_RUN_ENTRIES, query, EntriesListed)

    async def first(self, principal: Principal, run_id: str, after: int = 0) -> NumberedEntry | None:
        """The entry behind ``after``."""
        found = (await self.entries(principal, run_id, after, 1)).entries
        return found[0] if found else None

    async def tools(self, principal: Principal) -> ToolsListed:
        """Raises Unavailable when no tools process answers."""
        return await self._ask(names.SUBJECT_TOOLS_LIST, ToolsQuery(principal=principal), ToolsListed)

    async def _ask(self, subject: str, question: msgspec.Struct, kind: type[Any]) -> Any:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                data = await self.bus.request(subject, codec.encode(question), self._timeout_seconds)
                return _reply(data, kind)
            except Unavailable as error:
                if attempt == ATTEMPTS:
                    raise _absent(error) from error
            await self.clock.sleep(PAUSE_SECONDS)
        raise AssertionError("unreachable")


def _reply(data: bytes, kind: Any) -> Any:
    try:
        either: Any = kind | Failure
        reply = codec.decode(data, either)
    except msgspec.MsgspecError as error:
        raise Internal("run.reply", "a coordinator's reply cannot be read") from error
    if isinstance(reply, Failure):
        raise from_failure(reply)
    return reply


def _absent(error: Unavailable) -> Unavailable:
    """Nobody listens, in words of runs; what a coordinator says of itself stays."""
    if not error.code.startswith("bus."):
        return error
    message = "no coordinator answers at the moment; try again"
    return Unavailable("run.no_coordinator", message, retry_after_seconds=RETRY_AFTER_SECONDS)
