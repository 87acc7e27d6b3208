"""Engine, shard and encoder as processes on a real nats-server: each is killed under a request, whose bits stay those
of one undisturbed process; a lost shard is noticed within a second."""

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from schemas import names
from schemas.generation import GenerateRequest, GenerationItem, MediaSpan, TokensGenerated
from services.inference.command import main as command
from shared.blobs.store import BlobStore
from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.bus.fake import FakeBroker
from shared.bus.interface import Bus
from shared.calls.follow import follow
from shared.calls.interface import CallTarget
from shared.clock import SystemClock
from tests.unit.inference.conftest import Blobs, Caller, context, request
from tests.unit.inference.test_generate import spans_of
from tests.unit.inference.test_roles import part, pieces
from tests.waiting import until

START_SECONDS, ANSWER_SECONDS = 60.0, 60.0
NOTICED_SECONDS = 1.0


class Part:
    """A running ``python -m services.inference``, and what it logged."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process, self._log = process, log

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    def said(self, event: str) -> list[float]:
        """When it logged that, in Unix seconds."""
        lines = (line for line in self._log.read_text().splitlines() if line.startswith("{"))
        entries = [json.loads(line) for line in lines]
        return [entry["ts"] for entry in entries if entry["event"] == event]


class Parts:
    """Processes of one model on one broker and one blob store."""

    def __init__(self, broker: Broker, checkpoint: Path, folder: Path, stack: AsyncExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.model = f"parts-{secrets.token_hex(4)}"
        self.blobs = (folder / "blobs").as_uri()
        self._environment = os.environ | {
            "NATS_URL": broker.url,
            "MOONTIDE_BUS_USER": broker.user,
            "MOONTIDE_BUS_PASSWORD_FILE": str(broker.password_file),
            "MOONTIDE_SERVICE_BLOBS_URL": self.blobs,
            "MOONTIDE_INFERENCE_CHECKPOINT_DIR": str(checkpoint),
            "MOONTIDE_INFERENCE_MODEL": self.model,
            "MOONTIDE_INFERENCE_SHARD_PATIENCE_SECONDS": str(START_SECONDS),
        }

    async def start(self, role: str) -> Part:
        """Not waited for: it says "service ready"."""
        log = self._folder / f"{role}-{secrets.token_hex(3)}.log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.inference",
                env=self._environment | {"MOONTIDE_INFERENCE_ROLE": role},
                stderr=out,
            )
        started = Part(process, log)
        self._stack.push_async_callback(started.kill)
        return started


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "parts"
    assert command(["checkpoint", "init", "--preset", "tiny", "--seed", "3", "--out", str(out)]) == 0
    return out


@asynccontextmanager
async def parts(broker: Broker, checkpoint: Path, folder: Path) -> AsyncIterator[Parts]:
    async with AsyncExitStack() as stack:
        yield Parts(broker, checkpoint, folder, stack)


async def ask(bus: Bus, body: GenerateRequest, caller: Caller) -> None:
    """Follow one generation; whoever answers next goes on behind what was received."""

    def resumed() -> GenerateRequest:
        done = [item for item in caller.items if isinstance(item, TokensGenerated)]
        return msgspec.structs.replace(body, emitted_ids=b"".join(item.ids for item in done))

    target = CallTarget(subject=names.generate(body.model), context=context(ANSWER_SECONDS))
    async with asyncio.timeout(ANSWER_SECONDS):
        async for item in follow(bus, SystemClock(), target, resumed, GenerationItem):
            await caller.send(item)


async def body_with_media(blobs: str, model: str) -> GenerateRequest:
    made, store = Blobs(), BlobStore.open(blobs)
    spans: list[MediaSpan] = []
    for span in spans_of(made):
        ref = await store.put(made.data[span.patches.key])
        spans.append(MediaSpan(position=span.position, tokens=span.tokens, grid=span.grid, patches=ref))
    return request(model=model, media=tuple(spans), max_tokens=400, top_logprobs=1)


async def in_one_process(checkpoint: Path, folder: Path, body: GenerateRequest) -> Caller:
    """The answer that nothing disturbs."""
    broker, caller = FakeBroker(1), Caller()
    async with part("all", checkpoint, broker, folder / "blobs"):
        await ask(broker.bus("tokenizer"), msgspec.structs.replace(body, model=checkpoint.name), caller)
    return caller


async def disturbed(bus: Bus, body: GenerateRequest, disturb: Callable[[], None]) -> Caller:
    """``disturb`` is called once the first tokens are there."""
    caller = Caller()
    asking = asyncio.create_task(ask(bus, body, caller))
    await caller.first.wait()
    disturb()
    await asking
    return caller


@pytest.mark.timeout(300)
async def test_each_part_is_killed_and_no_bit_changes(broker: Broker, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    async with parts(broker, checkpoint, tmp_path) as running, connect(broker.config, "tokenizer") as bus:
        encoders = [await running.start("encoder") for _ in range(2)]
        shards = [await running.start("shard") for _ in range(2)]
        engine = await running.start("engine")
        body = await body_with_media(running.blobs, running.model)
        expected = pieces(await in_one_process(checkpoint, tmp_path, body))
        assert len(expected[0]) == 400
        await until(lambda: all(one.said("service ready") for one in [*encoders, *shards, engine]), START_SECONDS)

        encoders[0].send(signal.SIGSTOP)  # it takes calls and answers none; whoever asks it must find the other one
        caller = Caller()
        asking = asyncio.create_task(ask(bus, body, caller))
        await asyncio.wait({asking}, timeout=0.3)
        await encoders[0].kill()
        await asking
        assert pieces(caller) == expected

        (used,) = [shard for shard in shards if shard.said("shard taken")]
        killed_at: list[float] = []

        def kill_shard() -> None:
            used.send(signal.SIGKILL)
            killed_at.append(time.time())

        assert pieces(await disturbed(bus, body, kill_shard)) == expected
        assert engine.said("shard lost")[0] - killed_at[0] < NOTICED_SECONDS

        other = await running.start("engine")  # becomes ready when the shard falls free
        assert pieces(await disturbed(bus, body, lambda: engine.send(signal.SIGKILL))) == expected
        assert other.said("service ready")
