"""One broker, scripted neighbours in this process, and coordinators as processes that tests kill and freeze."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from schemas import names
from schemas.blobs import BlobRef
from schemas.chat import Message, TextPart
from schemas.codec import decode, encode
from schemas.failure import Failure
from schemas.request import Principal, RequestContext
from schemas.runs import (
    CommandStored,
    EntriesListed,
    EntriesQuery,
    NumberedEntry,
    RunBudget,
    RunCommand,
    RunCommandBody,
    RunEvent,
    RunOrigin,
    RunQuery,
    RunsListed,
    RunSpec,
    RunsQuery,
    RunSubmitted,
    RunSummary,
)
from shared.blobs.store import BlobStore
from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.bus.interface import Bus
from shared.clock import Clock, SystemClock
from shared.config import environment
from shared.errors import Unavailable, from_failure
from tests.integration.coordinator.scripted import (
    MODEL,
    Script,
    ScriptedModel,
    ScriptedTools,
    serving_model,
    serving_tools,
    standard_tools,
)

T = TypeVar("T")
ROOT = Path(__file__).parents[3]
READY_SECONDS = 30.0
ENDED = ("finished", "failed", "cancelled")


def new_run_id() -> str:
    return "run-" + "".join(secrets.choice("0123456789abcdefghjkmnpqrstvwxyz") for _ in range(26))


@dataclass
class Coordinator:
    """One coordinator process."""

    process: asyncio.subprocess.Process
    ready_file: Path

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def exit_code(self, timeout_seconds: float = 30.0) -> int:
        async with asyncio.timeout(timeout_seconds):
            return await self.process.wait()


class Client:
    """Whoever has runs done, beside a scripted model and scripted tools."""

    poll_seconds = 0.05

    def __init__(self, bus: Bus, blobs: BlobStore, stack: AsyncExitStack, clock: Clock) -> None:
        self.bus = bus
        self.blobs = blobs
        self._stack = stack
        self._clock = clock

    async def model(self, script: Script, *, context_length: int | None = 100_000) -> ScriptedModel:
        model = ScriptedModel(self.blobs, script)
        serving = serving_model(self.bus, model, clock=self._clock, context_length=context_length)
        return await self._stack.enter_async_context(serving)

    async def tools(self, tools: ScriptedTools | None = None, **options: Any) -> ScriptedTools:
        return await self._stack.enter_async_context(
            serving_tools(self.bus, tools or standard_tools(self.bus, self.blobs), **options)
        )

    async def beside(self, neighbour: AbstractAsyncContextManager[T]) -> T:
        """Something else that is there until the end."""
        return await self._stack.enter_async_context(neighbour)

    async def message(self, text: str) -> BlobRef:
        return await self.blobs.put(encode(Message(role="user", content=(TextPart(text=text),))))

    async def spec(self, goal: str = "Do it.", **fields: Any) -> RunSpec:
        if "budget" not in fields:
            fields["budget"] = RunBudget(max_seconds=120.0)
        return RunSpec(model=MODEL, messages=(await self.message(goal),), title=goal, **fields)

    async def submit(
        self, spec: RunSpec, run_id: str | None = None, origin: RunOrigin | None = None, tenant: str = "local"
    ) -> RunSummary:
        context = RequestContext(
            request_id="test",
            principal=Principal(tenant=tenant),
            deadline_unix_seconds=self._clock.unix_seconds() + 600.0,
        )
        submitted = RunSubmitted(run_id=run_id or new_run_id(), context=context, spec=spec, origin=origin)
        return await self.ask(names.SUBJECT_RUN_SUBMIT, submitted, RunSummary)

    async def start(self, goal: str = "Do it.", **fields: Any) -> str:
        return (await self.submit(await self.spec(goal, **fields))).run_id

    async def ask(self, subject: str, question: msgspec.Struct, kind: Any) -> Any:
        """Tried again while no coordinator answers, as the gateway does."""
        for attempt in range(60):
            try:
                reply = decode(await self.bus.request(subject, encode(question), 5.0), kind | Failure)
                break
            except Unavailable:
                if attempt == 59:
                    raise
                await asyncio.sleep(0.25)
        if isinstance(reply, Failure):
            raise from_failure(reply)
        return reply

    async def get(self, run_id: str, tenant: str = "local") -> RunSummary:
        query = RunQuery(run_id=run_id, principal=Principal(tenant=tenant))
        return await self.ask(names.SUBJECT_RUN_GET, query, RunSummary)

    async def listed(self, tenant: str = "local", **fields: Any) -> RunsListed:
        query = RunsQuery(principal=Principal(tenant=tenant), **fields)
        return await self.ask(names.SUBJECT_RUN_LIST, query, RunsListed)

    async def entries(self, run_id: str, tenant: str = "local") -> list[NumberedEntry]:
        found: list[NumberedEntry] = []
        while True:
            after = found[-1].sequence if found else 0
            query = EntriesQuery(run_id=run_id, principal=Principal(tenant=tenant), after_sequence=after)
            listed = await self.ask(names.SUBJECT_RUN_ENTRIES, query, EntriesListed)
            found += listed.entries
            if not listed.more:
                return found

    async def events(self, run_id: str, *kinds: type[RunEvent]) -> list[Any]:
        entries = await self.entries(run_id)
        return [event for entry in entries for event in entry.entry.events if not kinds or isinstance(event, kinds)]

    async def command(self, run_id: str, body: RunCommandBody, tenant: str = "local") -> CommandStored:
        command = RunCommand(
            command_id=secrets.token_hex(8), run_id=run_id, principal=Principal(tenant=tenant), body=body
        )
        return await self.ask(names.SUBJECT_RUN_COMMAND, command, CommandStored)

    async def until(self, run_id: str, *status: str, timeout_seconds: float = 60.0) -> RunSummary:
        async with asyncio.timeout(timeout_seconds):
            while True:
                summary = await self.get(run_id)
                if summary.status in status:
                    return summary
                assert summary.status not in ENDED, summary
                await asyncio.sleep(self.poll_seconds)

    async def ended(self, run_id: str, timeout_seconds: float = 90.0) -> RunSummary:
        return await self.until(run_id, *ENDED, timeout_seconds=timeout_seconds)

    async def taken_over(self, run_id: str, timeout_seconds: float = 30.0) -> RunSummary:
        """A second owner has the run."""
        async with asyncio.timeout(timeout_seconds):
            while True:
                summary = await self.get(run_id)
                if summary.term >= 2:
                    return summary
                await asyncio.sleep(0.02)

    async def answer(self, summary: RunSummary) -> str:
        assert summary.answer is not None, summary.failure
        message = decode(await self.blobs.get(summary.answer), Message)
        return "".join(part.text for part in message.content if isinstance(part, TextPart))


class Stage(Client):
    """With coordinators as processes."""

    def __init__(self, broker: Broker, bus: Bus, blobs: BlobStore, folder: Path, stack: AsyncExitStack) -> None:
        super().__init__(bus, blobs, stack, SystemClock())
        self.broker = broker
        self._folder = folder
        self._count = 0

    async def coordinator(self, module: str = "services.coordinator", **variables: str) -> Coordinator:
        """Ready when this returns."""
        self._count += 1
        ready_file = self._folder / f"ready-{self._count}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, cwd=ROOT, env=environment() | self.variables(ready_file) | variables
        )
        coordinator = Coordinator(process, ready_file)
        self._stack.push_async_callback(coordinator.kill)
        async with asyncio.timeout(READY_SECONDS):
            while not ready_file.exists():
                assert process.returncode is None, "the coordinator ended at its start"
                await asyncio.sleep(0.02)
        return coordinator

    def variables(self, ready_file: Path) -> dict[str, str]:
        return {
            "PYTHONPATH": str(ROOT),
            "NATS_URL": self.broker.url,
            "MOONTIDE_BUS_USER": self.broker.user,
            "MOONTIDE_BUS_PASSWORD_FILE": str(self.broker.password_file),
            "MOONTIDE_SERVICE_BLOBS_URL": f"file://{self._folder}/blobs",
            "MOONTIDE_SERVICE_READY_FILE": str(ready_file),
            "MOONTIDE_SERVICE_LOG_LEVEL": "WARNING",
        }


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    broker = Broker.prepare(folder / "broker")
    await broker.start()
    try:
        async with connect(broker.config, "stage") as bus, AsyncExitStack() as stack:
            yield Stage(broker, bus, BlobStore.open(f"file://{folder}/blobs"), folder, stack)
    finally:
        await broker.stop()
