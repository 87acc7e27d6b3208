"""A coordinator whose runs do what a test says: it answers the questions of ``schemas/runs.py`` from memory.

Not a model of the real one: it runs nothing by itself. ``append`` is what an owner does, ``whisper`` what is only live.
"""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from schemas import codec, names
from schemas.blobs import BlobRef
from schemas.chat import Message, TextPart, Usage
from schemas.failure import Failure
from schemas.request import Principal
from schemas.runs import (
    CommandStored,
    EntriesListed,
    EntriesQuery,
    LeaseTaken,
    LedgerEntry,
    ModelAnswered,
    NumberedEntry,
    PendingApproval,
    RunAccepted,
    RunCommand,
    RunDelta,
    RunEnded,
    RunEvent,
    RunPaused,
    RunQuery,
    RunResumed,
    RunsListed,
    RunsQuery,
    RunStatus,
    RunSubmitted,
    RunSummary,
    RunWaiting,
    ToolAnswered,
    ToolAsked,
    ToolDecided,
)
from schemas.tools import ToolDeclaration, ToolsListed
from shared.blobs.store import BlobStore
from shared.bus.interface import Bus

NOT_FOUND = Failure(code="run.not_found", message="no such run", status=404, param="id")
TOOLS = ("python", "shell", "read_file")
Submitted = Callable[["ScriptedCoordinator", str], Awaitable[None]]


@dataclass
class ScriptedCoordinator:
    bus: Bus
    blobs: BlobStore
    page: int = 256
    """Entries of one answer, at most."""
    silent: bool = False
    """Nothing is said live: as if the owner died between append and publish, every time."""
    on_submit: Submitted | None = None
    ledgers: dict[str, list[NumberedEntry]] = field(default_factory=dict)
    commands: list[RunCommand] = field(default_factory=list)
    submitted: list[RunSubmitted] = field(default_factory=list)
    queries: int = 0
    _sequence: int = 0
    _draw: random.Random = field(default_factory=lambda: random.Random(1))

    async def append(self, run_id: str, *events: RunEvent) -> NumberedEntry:
        self._sequence += self._draw.randint(1, 4)
        entry = LedgerEntry(
            entry_id=f"e{self._sequence}",
            run_id=run_id,
            owner="scripted",
            term=1,
            time_unix_seconds=time.time(),
            events=events,
        )
        numbered = NumberedEntry(sequence=self._sequence, entry=entry)
        self.ledgers.setdefault(run_id, []).append(numbered)
        if not self.silent:
            await self.bus.publish(names.run_live(run_id), codec.encode(numbered))
        return numbered

    async def whisper(self, run_id: str, **delta: Any) -> None:
        message = RunDelta(run_id=run_id, **({"step": 1} | delta))
        await self.bus.publish(names.run_live(run_id), codec.encode(message))

    async def say(self, text: str, role: Any = "assistant", **fields: Any) -> BlobRef:
        return await self.blobs.put(codec.encode(Message(role=role, content=(TextPart(text=text),), **fields)))

    async def answer(
        self, run_id: str, text: str, *, step: int = 1, reasoning: str | None = None, **fields: Any
    ) -> None:
        message = await self.say(text, reasoning=reasoning)
        answered = ModelAnswered(
            step=step,
            message=message,
            usage=Usage(prompt_tokens=10, completion_tokens=5),
            **({"finish_reason": "stop", "cost_usd": 0.25} | fields),
        )
        await self.append(run_id, answered, RunEnded(outcome="finished", answer=message))

    def events(self, run_id: str) -> list[RunEvent]:
        return [event for numbered in self.ledgers[run_id] for event in numbered.entry.events]

    # ---- Questions.

    async def submit(self, asked: RunSubmitted) -> msgspec.Struct:
        self.submitted.append(asked)
        if asked.run_id not in self.ledgers:
            await self.append(asked.run_id, RunAccepted(context=asked.context, spec=asked.spec, origin=asked.origin))
            if self.on_submit is not None:
                await self.on_submit(self, asked.run_id)
        return self._summary(asked.run_id)

    async def get(self, asked: RunQuery) -> msgspec.Struct:
        return self._summary(asked.run_id) if self._sees(asked.principal, asked.run_id) else NOT_FOUND

    async def list(self, asked: RunsQuery) -> msgspec.Struct:
        seen = [self._summary(run_id) for run_id in self.ledgers if self._sees(asked.principal, run_id)]
        wanted = [s for s in seen if asked.status in (None, s.status) and (not asked.before or s.run_id < asked.before)]
        newest = sorted(wanted, key=lambda summary: summary.run_id, reverse=True)
        return RunsListed(runs=tuple(newest[: asked.limit]), more=len(newest) > asked.limit)

    async def entries(self, asked: EntriesQuery) -> msgspec.Struct:
        self.queries += 1
        if not self._sees(asked.principal, asked.run_id):
            return NOT_FOUND
        limit = min(asked.limit, self.page)
        behind = [entry for entry in self.ledgers[asked.run_id] if entry.sequence > asked.after_sequence]
        return EntriesListed(entries=tuple(behind[:limit]), more=len(behind) > limit)

    async def command(self, asked: RunCommand) -> msgspec.Struct:
        if not self._sees(asked.principal, asked.run_id):
            return NOT_FOUND
        if asked.command_id not in {command.command_id for command in self.commands}:
            self.commands.append(asked)
        return CommandStored(command_id=asked.command_id)

    def _sees(self, principal: Principal, run_id: str) -> bool:
        return run_id in self.ledgers and self._accepted(run_id).context.principal.tenant == principal.tenant

    def _accepted(self, run_id: str) -> RunAccepted:
        accepted = self.ledgers[run_id][0].entry.events[0]
        assert isinstance(accepted, RunAccepted)
        return accepted

    def _summary(self, run_id: str) -> RunSummary:
        accepted, events, last = self._accepted(run_id), self.events(run_id), self.ledgers[run_id][-1]
        answers = [event for event in events if isinstance(event, ModelAnswered)]
        asked = {event.call_id: event for event in events if isinstance(event, ToolAsked) and event.needs_approval}
        decided = {event.call_id for event in events if isinstance(event, ToolDecided)}
        trees = [event.workspace for event in events if isinstance(event, ToolAnswered) and event.workspace]
        ended = next((event for event in events if isinstance(event, RunEnded)), None)
        return RunSummary(
            run_id=run_id,
            kind=accepted.spec.kind,
            status=_status(events),
            model=accepted.spec.model,
            title=accepted.spec.title,
            principal=accepted.context.principal,
            created_unix_seconds=self.ledgers[run_id][0].entry.time_unix_seconds,
            updated_unix_seconds=last.entry.time_unix_seconds,
            step=max((event.step for event in answers), default=0),
            usage=Usage(
                prompt_tokens=sum(event.usage.prompt_tokens for event in answers),
                completion_tokens=sum(event.usage.completion_tokens for event in answers),
            ),
            cost_usd=sum(event.cost_usd for event in answers),
            owner="scripted",
            term=1,
            waiting=next((e.failure for e in reversed(events) if isinstance(e, RunWaiting)), None),
            approvals=tuple(
                PendingApproval(call_id=call_id, tool=event.tool, arguments=event.arguments)
                for call_id, event in asked.items()
                if call_id not in decided
            ),
            answer=ended.answer if ended is not None else None,
            failure=ended.failure if ended is not None else None,
            files=ended.files if ended is not None else (),
            workspace=trees[-1] if trees else None,
            origin=accepted.origin,
            last_sequence=last.sequence,
        )


def _status(events: list[RunEvent]) -> RunStatus:
    for event in reversed(events):
        if isinstance(event, RunEnded):
            return event.outcome
        if isinstance(event, RunPaused):
            return "paused"
        if isinstance(event, RunWaiting):
            return "waiting"
        if isinstance(event, RunResumed | ModelAnswered | LeaseTaken):
            return "running"
    return "queued"


@asynccontextmanager
async def coordinating(bus: Bus, blobs: BlobStore, **fields: Any) -> AsyncIterator[ScriptedCoordinator]:
    """Answers as ``names.SERVICE_COORDINATOR``, and says which tools there are."""
    coordinator = ScriptedCoordinator(bus, blobs, **fields)
    questions: dict[str, tuple[Any, Callable[[Any], Awaitable[msgspec.Struct]]]] = {
        names.SUBJECT_RUN_SUBMIT: (RunSubmitted, coordinator.submit),
        names.SUBJECT_RUN_GET: (RunQuery, coordinator.get),
        names.SUBJECT_RUN_LIST: (RunsQuery, coordinator.list),
        names.SUBJECT_RUN_ENTRIES: (EntriesQuery, coordinator.entries),
        names.SUBJECT_RUN_COMMAND: (RunCommand, coordinator.command),
    }
    endpoints = {subject: _endpoint(kind, handler) for subject, (kind, handler) in questions.items()}
    async with (
        bus.offer(names.SERVICE_COORDINATOR, endpoints, version="1.0.0", metadata={"kinds": "agent"}),
        bus.offer(names.SERVICE_TOOLS, {names.SUBJECT_TOOLS_LIST: _tools}, version="1.0.0", metadata={}),
    ):
        yield coordinator


def _endpoint(kind: Any, handler: Callable[[Any], Awaitable[msgspec.Struct]]) -> Callable[[bytes], Awaitable[bytes]]:
    async def answer(data: bytes) -> bytes:
        return codec.encode(await handler(codec.decode(data, kind)))

    return answer


async def _tools(data: bytes) -> bytes:
    declared = [ToolDeclaration(name=name, description=name, parameters=b'{"type":"object"}') for name in TOOLS]
    return codec.encode(ToolsListed(tools=tuple(declared)))
