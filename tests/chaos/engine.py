"""``python -m tests.chaos.engine``: engines, shards and encoders that are killed, under requests that change their
minds.

Everything between a caller and a shard's arithmetic is the real thing, on the fake bus in virtual time; the shard is a
stand-in whose every token depends on every page it reads. Requests end, are cancelled, run into deadlines, or lose
their caller; engines, shards and encoders die and come back. Each request must end once, with the tokens that it would
get alone, and all pages must come back; page tables are checked after every step. ``SEED``, ``REQUESTS`` and ``BREAK``
(``leak-page``, ``batch-dependent-kernel``, ``lost-on-preempt``) as arguments; one JSON object last; exit code 1 on a
fault.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from schemas import names
from schemas.blobs import BlobRef
from schemas.generation import GenerateRequest, GenerationItem, MediaSpan, TokensGenerated
from schemas.request import Principal, RequestContext
from schemas.shards import EncodeRequest, ShardOpened
from services.inference import schedule as scheduling
from services.inference.admission import decode_ids, encode_ids
from services.inference.app import serving_engine
from services.inference.cache import PageCache, empty
from services.inference.config import InferenceConfig
from services.inference.engine import Engine
from services.inference.remote import SHARD_POLICY, RemoteShard
from services.inference.sequence import Medium, Sequence
from services.inference.shard_service import ENCODER_POLICY, EncodeHandler, RemoteEncoder, ShardHandler
from shared.blobs.store import BlobStore
from shared.bus.fake import FakeBroker, FakeBus
from shared.calls.follow import follow
from shared.calls.interface import CallPolicy, CallTarget
from shared.calls.serve import serve
from shared.errors import Busy, DeadlineExceeded, MoontideError, Unavailable
from shared.model import config as model_config
from shared.model import presets
from shared.model.initialise import initialise
from shared.service import Process
from shared.telemetry.tracing import Telemetry
from tests import virtual_time
from tests.chaos.stand_in import PLACEHOLDER, VOCABULARY, StandIn, expected

MODEL = "chaos"
PAGES, PAGE = 64, 16
BREAKS = ("leak-page", "batch-dependent-kernel", "lost-on-preempt")
CALLER_POLICY = CallPolicy(attempts=50, recovery_seconds=120.0)
KINDS = ("whole",) * 12 + ("cancelled",) * 3 + ("late",) * 2 + ("gone",) * 3
PARTS = ("engine", "shard", "encoder")


class Embeddings:
    """Rows that say nothing: the stand-in knows media by their key."""

    async def rows(self, span: MediaSpan) -> Tensor:
        await virtual_time.VirtualClock().sleep(0.02)
        return torch.zeros(span.tokens, 2)


class World:
    """Two engines, three shards and two encoders, each of which may be killed."""

    def __init__(self, directory: Path, seed: int, broken: str) -> None:
        self.directory, self.broken = directory, broken
        self.rng = random.Random(seed)
        self.broker = FakeBroker(seed)
        self.clock = virtual_time.VirtualClock()
        self.model = model_config.load(directory)
        self.ends: Counter[str] = Counter()
        self.faults: list[str] = []
        self.kills: Counter[str] = Counter()
        self.engines: set[Engine] = set()
        self.preempted = self.cached_tokens = 0
        self._alive: dict[str, tuple[FakeBus, asyncio.Task[None]]] = {}

    def start(self, name: str) -> None:
        bus = self.broker.bus(name)
        run: Callable[[FakeBus], Any] = getattr(self, f"_{name.split('-')[0]}")
        self._alive[name] = (bus, asyncio.create_task(self._run(run, bus), name=name))

    async def _run(self, run: Callable[[FakeBus], Any], bus: FakeBus) -> None:
        try:
            async with run(bus):
                await asyncio.Event().wait()
        except MoontideError as error:
            self.faults.append(f"{bus.instance} ended: {error.code}")

    async def kill(self, part: str) -> None:
        """Without a word: nothing that it sends arrives any more. It comes back after a moment."""
        name = self.rng.choice([name for name in self._alive if name.startswith(part)])
        bus, task = self._alive.pop(name)
        self.kills[part] += 1
        bus.kill()
        task.cancel()
        await asyncio.wait({task})
        try:
            await self.clock.sleep(self.rng.uniform(0.1, 1.0))
        finally:  # also when the storm is over
            self.start(name)

    async def stop(self) -> None:
        for _, task in self._alive.values():
            task.cancel()
        await asyncio.wait({task for _, task in self._alive.values()})

    @asynccontextmanager
    async def _engine(self, bus: FakeBus) -> AsyncIterator[None]:
        config = InferenceConfig(
            checkpoint_dir=self.directory, model=MODEL, max_running=6, prefill_slice_tokens=48, max_queue=64
        )
        telemetry = Telemetry("inference", bus.instance, bus)
        blobs = BlobStore.open(self.directory.as_uri())
        process = Process(name="inference", bus=bus, blobs=blobs, telemetry=telemetry, clock=self.clock)
        shard = RemoteShard(bus, self.clock, MODEL, patience_seconds=60.0)
        async with shard.running(), serving_engine(config, process, self.model, shard) as engine:
            self.engines.add(engine)
            try:
                yield
            finally:
                self.engines.discard(engine)
                self.preempted += engine.preempted

    @asynccontextmanager
    async def _shard(self, bus: FakeBus) -> AsyncIterator[None]:
        taint = self.broken == "batch-dependent-kernel"
        layers = StandIn(self.clock, pages=PAGES, page_tokens=PAGE, row_seconds=0.0004, taint=taint)
        layers.fetching = RemoteEncoder(bus, self.clock, MODEL).rows
        handler = ShardHandler(bus, layers)
        offered = self._offer(bus, names.SERVICE_SHARD, names.shard(MODEL), handler, ShardOpened, 1, SHARD_POLICY)
        async with offered:
            yield

    @asynccontextmanager
    async def _encoder(self, bus: FakeBus) -> AsyncIterator[None]:
        handler = EncodeHandler(Embeddings())
        offered = self._offer(
            bus, names.SERVICE_ENCODER, names.encode(MODEL), handler, EncodeRequest, 16, ENCODER_POLICY
        )
        async with offered:
            yield

    def _offer(
        self, bus: FakeBus, name: str, subject: str, handler: Any, body: Any, most: int, policy: CallPolicy
    ) -> Any:
        return serve(
            bus, self.clock, name=name, subject=subject, handler=handler, body_type=body, max_calls=most,
            version="0.0.0", policy=policy, drain_seconds=0.0,
        )  # fmt: skip


class Asking:
    """One request, from its first attempt to its one end."""

    def __init__(self, world: World, number: int) -> None:
        rng = self.rng = random.Random(world.rng.random())
        self.world, self.number, self.kind = world, number, rng.choice(KINDS)
        prompt = [which] * 40 if (which := rng.randrange(8)) < 4 else []
        self.media: list[MediaSpan] = []
        if rng.random() < 0.2:
            patches = BlobRef(key=f"medium-{rng.randrange(12)}", size_bytes=1 * 4 * 6 * 3 * 14 * 14)
            self.media.append(MediaSpan(position=len(prompt), tokens=6, grid=(1, 4, 6), patches=patches))
            prompt += [PLACEHOLDER] * 6
        self.prompt = prompt + [rng.randrange(PLACEHOLDER) for _ in range(rng.randrange(1, 120))]
        self.count = rng.randrange(1, 60)
        self.stop_after = rng.randrange(1, 20)
        self.ids: list[int] = []
        self.ends = 0

    def body(self) -> GenerateRequest:
        return GenerateRequest(
            model=MODEL,
            prompt_ids=encode_ids(self.prompt),
            emitted_ids=encode_ids(self.ids),
            media=tuple(self.media),
            max_tokens=self.count,
            temperature=0.0,
            top_p=1.0,
            seed=self.number,
            stop_ids=(),
            expected_pause_seconds=self.rng.choice((0.0, 5.0)),
        )

    async def run(self) -> None:
        bus = self.world.broker.bus("caller")
        try:
            await self._follow(bus)
        except DeadlineExceeded:
            self._end("deadline")
        except (Busy, Unavailable):
            self._end("refused")
        except MoontideError as error:
            self.world.faults.append(f"request {self.number} failed: {error.code} {error.message}")
            self._end("failed")
        self._check()

    async def _follow(self, bus: FakeBus) -> None:
        seconds = self.rng.uniform(0.05, 1.0) if self.kind == "late" else 600.0
        principal = Principal(tenant="t", key_id=str(self.rng.randrange(4)))
        context = RequestContext(
            request_id=f"r-{self.number}",
            principal=principal,
            priority=self.rng.choice(("interactive", "interactive", "batch")),
            deadline_unix_seconds=self.world.clock.unix_seconds() + seconds,
        )
        target = CallTarget(subject=names.generate(MODEL), context=context, policy=CALLER_POLICY)
        items = follow(bus, self.world.clock, target, self.body, GenerationItem)
        async with aclosing(items):
            async for item in items:
                if not isinstance(item, TokensGenerated):
                    self.world.cached_tokens += item.cached_tokens
                    self._end("whole")
                    continue
                if item.first_position != len(self.ids):
                    self.world.faults.append(f"request {self.number}: position {item.first_position}")
                self.ids += decode_ids(item.ids, VOCABULARY, "ids").tolist()
                if self.kind in ("cancelled", "gone") and len(self.ids) >= self.stop_after:
                    if self.kind == "gone":
                        bus.kill()
                    self._end(self.kind)
                    return

    def _end(self, how: str) -> None:
        self.ends += 1
        self.world.ends[how] += 1
        if how == "whole" and len(self.ids) != self.count:
            self.world.faults.append(f"request {self.number}: {len(self.ids)} tokens of {self.count}")

    def _check(self) -> None:
        if self.ends != 1:
            self.world.faults.append(f"request {self.number} ended {self.ends} times")
        media = [(m.position, m.tokens, m.key) for m in (Medium.of(span) for span in self.media)]
        if self.ids != expected(self.prompt, media, len(self.ids)):
            self.world.faults.append(f"request {self.number}: other tokens than alone")


async def storm(directory: Path, seed: int, count: int, broken: str) -> dict[str, Any]:
    world = World(directory, seed, broken)
    for name in ("shard-1", "shard-2", "shard-3", "encoder-1", "encoder-2", "engine-1", "engine-2"):
        world.start(name)
    killing = asyncio.create_task(_kill(world))
    room = asyncio.Semaphore(48)

    async def one(number: int) -> None:
        async with room:
            await Asking(world, number).run()

    pending: set[asyncio.Task[None]] = set()
    for number in range(count):
        pending.add(asyncio.create_task(one(number)))
        if len(pending) >= 64:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        await world.clock.sleep(world.rng.expovariate(1 / 0.03))
    if pending:
        _, late = await asyncio.wait(pending, timeout=900)
        world.faults += [f"{len(late)} requests never ended"] if late else []
    killing.cancel()
    await asyncio.wait({killing})
    await world.clock.sleep(30.0)  # silence is noticed, everybody is back
    _check_memory(world)
    result = {
        "seed": seed,
        "break": broken or None,
        "requests": count,
        "ends": dict(world.ends),
        "kills": dict(world.kills),
        "preempted": world.preempted + sum(engine.preempted for engine in world.engines),
        "cached_tokens": world.cached_tokens,
        "virtual_seconds": round(world.clock.monotonic_seconds(), 1),
        "faults": len(world.faults),
        "first_faults": world.faults[:5],
    }
    await world.stop()
    return result


async def _kill(world: World) -> None:
    while True:  # in rounds, so that a short storm meets every kind
        for part in world.rng.sample(PARTS, len(PARTS)):
            await world.clock.sleep(world.rng.uniform(0.5, 3.0))
            await world.kill(part)


def _check_memory(world: World) -> None:
    if len(world.engines) != 2:
        world.faults.append(f"{len(world.engines)} engines of 2 are there")
    for engine in world.engines:
        state = engine.state
        if engine.load or state.running or state.waiting or state.cache.available != PAGES:
            world.faults.append(f"load {engine.load}, {state.cache.available} of {PAGES} pages available")


@contextmanager
def checked(broken: str) -> Iterator[None]:
    """Engines check their page tables after every step; and the planted defect, if any, is there."""
    step, close, preempt = Engine.step, PageCache.close, scheduling.preempt

    async def checked_step(engine: Engine) -> None:
        await step(engine)
        engine.state.cache.check_invariants(engine.state.running)

    def leaking(cache: PageCache, sequence: Sequence, now: float, pause_seconds: float = 0.0) -> None:
        own = sequence.table[len(sequence.nodes) :]
        if len(own) > 1:
            sequence.table.pop()
        close(cache, sequence, now, pause_seconds)

    def losing(state: scheduling.State, sequence: Sequence, now: float) -> None:
        preempt(state, sequence, now)
        if len(sequence.tokens) > sequence.prompt:
            sequence.tokens.pop()
            empty(sequence)

    Engine.step = checked_step  # type: ignore[method-assign]
    if broken == "leak-page":
        PageCache.close = leaking  # type: ignore[method-assign]
    if broken == "lost-on-preempt":
        scheduling.preempt = losing
    try:
        yield
    finally:
        Engine.step, PageCache.close, scheduling.preempt = step, close, preempt  # type: ignore[method-assign]


def run(seed: int, count: int, broken: str = "") -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="moontide-chaos-") as name, checked(broken):
        directory = Path(name) / MODEL
        initialise(directory, presets.document("tiny", 512), seed=1, tokenizer_config=None)
        return virtual_time.run(storm(directory, seed, count, broken))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.engine")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--break", dest="broken", choices=("", *BREAKS), default="")
    parsed = parser.parse_args()
    result = run(parsed.seed, parsed.requests, parsed.broken)
    print(msgspec.json.encode(result).decode())
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
