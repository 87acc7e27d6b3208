"""Tools processes that die, freeze and race, over a real nats-server: one outcome per call, and nothing left behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from schemas import names
from schemas.blobs import BlobRef
from schemas.codec import decode, encode, encode_json
from schemas.parked import ParkedJob
from schemas.request import RequestContext
from schemas.tools import ToolCancelled, ToolFinished, ToolJob, ToolOutcome, ToolProgress, ToolsListed, ToolsQuery
from services.tools.queue import TOOLS_QUEUE
from shared.blobs.store import BlobStore
from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.bus.interface import Bus, Subscription
from shared.config import environment
from tests.integration.process import ROOT
from tests.unit.tools.desk import text
from tests.waiting import until

READY_SECONDS = 60.0
OUTCOME_SECONDS = 60.0


class Worker:
    def __init__(self, process: "subprocess.Popen[bytes]", ready: Path) -> None:
        self.process = process
        self._ready = ready

    async def ready(self) -> None:
        await until(self._ready.exists, READY_SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Harbour:
    """A caller, and the processes that it starts."""

    def __init__(self, folder: Path, broker: Broker, bus: Bus) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self.broker = broker
        self.bus = bus
        self.blobs = BlobStore.open((folder / "blobs").as_uri())
        self.workers: list[Worker] = []

    async def start(self) -> Worker:
        ready = self.folder / f"ready-{uuid.uuid4().hex}"
        variables = {
            "PYTHONPATH": str(ROOT),
            "NATS_URL": self.broker.url,
            "MOONTIDE_BUS_USER": self.broker.user,
            "MOONTIDE_BUS_PASSWORD_FILE": str(self.broker.password_file),
            "MOONTIDE_SERVICE_BLOBS_URL": (self.folder / "blobs").as_uri(),
            "MOONTIDE_SERVICE_READY_FILE": str(ready),
            "MOONTIDE_TOOLS_SCRATCH_DIRECTORY": str(self.scratch),
        }
        worker = Worker(launched(variables), ready)
        self.workers.append(worker)
        await worker.ready()
        return worker

    async def send(self, tool: str, arguments: dict, call_id: str, **more: BlobRef | None) -> Subscription:
        outcomes = await self.bus.subscribe(names.tool_outcome(call_id))
        context = RequestContext(request_id="r", deadline_unix_seconds=time.time() + 120)
        job = ToolJob(
            call_id=call_id,
            context=context,
            run_id=f"run-{call_id}",
            tool=tool,
            arguments=encode_json(arguments),
            **more,
        )
        await self.bus.enqueue(names.tool_requested(call_id), encode(job), message_id=uuid.uuid4().hex)
        return outcomes

    async def outcome(self, outcomes: Subscription) -> ToolFinished:
        async with asyncio.timeout(OUTCOME_SECONDS):
            async for data in outcomes:
                item = decode(data, ToolOutcome)  # type: ignore[arg-type]
                if isinstance(item, ToolFinished):
                    return item
        raise AssertionError("unreachable")

    async def until_it_says(self, outcomes: Subscription, words: str) -> None:
        async with asyncio.timeout(OUTCOME_SECONDS):
            async for data in outcomes:
                item = decode(data, ToolOutcome)  # type: ignore[arg-type]
                if isinstance(item, ToolProgress) and words in item.text:
                    return

    async def ask(self, tool: str, arguments: dict, call_id: str, **more: BlobRef | None) -> ToolFinished:
        return await self.outcome(await self.send(tool, arguments, call_id, **more))


def launched(variables: dict[str, str]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "services.tools"]
    return subprocess.Popen(command, cwd=ROOT, env=environment() | variables)


@pytest.fixture
async def harbour(tmp_path: Path, broker: Broker) -> AsyncIterator[Harbour]:
    async with connected(tmp_path, broker) as made:
        try:
            yield made
        finally:
            for worker in made.workers:
                worker.kill()


@asynccontextmanager
async def connected(folder: Path, broker: Broker) -> AsyncIterator[Harbour]:
    async with connect(broker.config, "caller") as bus:
        await bus.declare(TOOLS_QUEUE)
        yield Harbour(folder, broker, bus)


def running(mark: str) -> list[int]:
    """Processes that name the mark in their command line, this machine over; the dead are none."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "cmdline").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def groups_of(pid: int) -> list[Path]:
    return list(Path("/sys/fs/cgroup").rglob(f"moontide-tools-{pid}-*"))


def seconds() -> str:
    """A time to sleep that nobody else sleeps, to be known by."""
    return f"2.{uuid.uuid4().int % 10**12:012d}"


def call() -> str:
    return f"run-{uuid.uuid4().hex}-1-0"


async def test_a_killed_worker_in_the_middle_of_a_command(harbour: Harbour) -> None:
    first = await harbour.start()
    mark = seconds()
    outcomes = await harbour.send(
        "shell", {"command": f"echo begun >> log; (sleep {mark} &) ; sleep {mark}; cat log"}, call()
    )
    await until(lambda: len(running(f"sleep\0{mark}")) == 2, 30)
    first.kill()
    await until(lambda: not running(mark), 3)
    second = await harbour.start()
    assert len(list(harbour.scratch.iterdir())) == 1, "what the dead one left is swept"
    outcome = await harbour.outcome(outcomes)
    assert (text(outcome), outcome.failure) == ("begun", None)
    assert second.process.poll() is None
    assert groups_of(first.process.pid) == []


async def test_a_killed_worker_in_the_middle_of_python_loses_no_variable(harbour: Harbour) -> None:
    first = await harbour.start()
    begun = await harbour.ask("python", {"code": "n = 1\ndef f(): return n"}, call())
    mark = seconds()
    code = f"import subprocess\nn += 1\nsubprocess.run(['sleep', '{mark}'])\nf()"
    outcomes = await harbour.send("python", {"code": code}, call(), session=begun.session, workspace=begun.workspace)
    await until(lambda: running(f"sleep\0{mark}"), 30)
    first.kill()
    await until(lambda: not running(mark), 3)
    await harbour.start()
    outcome = await harbour.outcome(outcomes)
    assert text(outcome) == "2"
    after = await harbour.ask("python", {"code": "n + f()"}, call(), session=outcome.session)
    assert text(after) == "4"


async def test_cancelling_takes_effect_within_a_second(harbour: Harbour) -> None:
    await harbour.start()
    call_id, mark = call(), seconds().replace("2.", "60.")
    outcomes = await harbour.send("shell", {"command": f"sleep {mark}"}, call_id)
    await until(lambda: running(f"sleep\0{mark}"), 30)
    begun = time.monotonic()
    await harbour.bus.publish(names.tool_control(call_id), encode(ToolCancelled(call_id=call_id, reason="stopped")))
    outcome = await harbour.outcome(outcomes)
    assert time.monotonic() - begun < 1.0
    assert outcome.failure is not None
    assert outcome.failure.code == "tool.cancelled"
    await until(lambda: not running(mark), 1)


async def test_a_call_that_is_queued_twice_has_one_outcome(harbour: Harbour) -> None:
    await harbour.start()
    await harbour.start()
    call_id, command = call(), {"command": "date +%s%N; sleep 0.3"}
    heard = [await harbour.send("shell", command, call_id) for _ in range(4)]
    outcomes = {await harbour.outcome(subscription) for subscription in heard}
    assert len(outcomes) == 1


async def test_a_frozen_worker_that_wakes_up_changes_nothing(harbour: Harbour) -> None:
    first = await harbour.start()
    call_id, mark = call(), seconds()
    outcomes = await harbour.send("shell", {"command": f"date +%s%N; sleep {mark}"}, call_id)
    await until(lambda: running(f"sleep\0{mark}"), 30)
    first.process.send_signal(signal.SIGSTOP)
    await harbour.start()
    taken_over = await harbour.outcome(outcomes)
    first.process.send_signal(signal.SIGCONT)
    assert await harbour.outcome(outcomes) == taken_over


async def test_what_is_no_job_is_parked_and_answered(harbour: Harbour) -> None:
    await harbour.start()
    call_id = call()
    outcomes = await harbour.bus.subscribe(names.tool_outcome(call_id))
    parked = await harbour.bus.subscribe(names.parked(names.STREAM_TOOLS, names.DURABLE_TOOLS, call_id))
    await harbour.bus.enqueue(names.tool_requested(call_id), b"\xc1", message_id=call_id)
    assert (await harbour.outcome(outcomes)).failure.code == "tools.malformed"  # type: ignore[union-attr]
    data = await parked.next(10)
    assert data is not None
    assert decode(data, ParkedJob).data == b"\xc1"


async def test_tools_are_listed_by_any_process(harbour: Harbour) -> None:
    await harbour.start()
    answer = await harbour.bus.request(names.SUBJECT_TOOLS_LIST, encode(ToolsQuery()), 5)
    listed = [declaration.name for declaration in decode(answer, ToolsListed).tools]
    assert {"python", "shell", "list_files", "read_file", "write_file", "edit_file"} <= set(listed)
    assert {"search_files", "apply_patch", "fetch", "look"} <= set(listed)
    assert not any(name.startswith("$") for name in listed)


async def test_a_drained_worker_finishes_its_calls(harbour: Harbour) -> None:
    worker = await harbour.start()
    mark = seconds()
    outcomes = await harbour.send("shell", {"command": f"sleep {mark}; echo done"}, call())
    await until(lambda: running(f"sleep\0{mark}"), 30)
    worker.process.terminate()
    assert text(await harbour.outcome(outcomes)) == "done"
    await until(lambda: worker.process.poll() is not None, 20)
    assert worker.process.returncode == 0
    assert list(harbour.scratch.iterdir()) == []
