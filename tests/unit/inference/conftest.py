"""A tiny model, loaded once, and an engine around it whose caller is a list."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import torch

from schemas.blobs import BlobRef, Payload
from schemas.generation import GenerateRequest, GenerationFinished, TokensGenerated
from schemas.request import RequestContext
from services.inference.admission import encode_ids
from services.inference.app import local_shard
from services.inference.compute import ComputeThread
from services.inference.config import InferenceConfig
from services.inference.encoder import Encoder
from services.inference.engine import Engine
from services.inference.handlers import GenerateHandler
from services.inference.options import EngineOptions
from services.inference.schedule import Limits
from shared.clock import SystemClock
from shared.errors import NotFound
from shared.model import presets
from shared.model.checkpoint import Checkpoint, load
from shared.model.initialise import initialise
from shared.telemetry.recording import RecordingTelemetry

MODEL = "tiny"


class Caller:
    """A ``CallWriter`` that keeps what it is sent."""

    def __init__(self) -> None:
        self.items: list[msgspec.Struct] = []
        self.first = asyncio.Event()

    async def send(self, item: msgspec.Struct) -> None:
        self.items.append(item)
        self.first.set()

    @property
    def ids(self) -> list[int]:
        pieces = [item for item in self.items if isinstance(item, TokensGenerated)]
        return [int.from_bytes(p.ids[i : i + 4], "little") for p in pieces for i in range(0, len(p.ids), 4)]

    @property
    def finished(self) -> GenerationFinished:
        last = self.items[-1]
        assert isinstance(last, GenerationFinished)
        return last


class Blobs:
    """Blobs in a dictionary."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> BlobRef:
        self.data[name] = data
        return BlobRef(key=name, size_bytes=len(data))

    async def get(self, ref: BlobRef) -> bytes:
        if ref.key not in self.data:
            raise NotFound("blob.not_found", f"no blob {ref.key}")
        return self.data[ref.key]

    async def resolve(self, payload: Payload) -> bytes:
        return payload if isinstance(payload, bytes) else await self.get(payload)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    out: Path = tmp_path_factory.mktemp("checkpoints") / "tiny"
    initialise(out, presets.document("tiny", 512), seed=7, tokenizer_config=None)
    return load(out, dtype=torch.float32)


@pytest.fixture
def blobs() -> Blobs:
    return Blobs()


SMALL = EngineOptions(limits=Limits(slots=3, slice_tokens=16), max_queue=3)


@asynccontextmanager
async def serving(
    checkpoint: Checkpoint, blobs: Blobs, compute: ComputeThread, options: EngineOptions, cache_bytes: int | None = None
) -> AsyncIterator[GenerateHandler]:
    """An engine, its shard and its encoder in this process, without a bus."""
    config = InferenceConfig(checkpoint_dir=Path(), cache_bytes=cache_bytes)
    encoder = Encoder(checkpoint.network, compute, blobs, cache_bytes=2**20)
    shard = await local_shard(config, checkpoint, compute, encoder)
    engine = Engine(shard, SystemClock(), vocabulary=checkpoint.config.text.vocab_size, options=options)
    async with engine.running():
        yield GenerateHandler(
            model=MODEL,
            config=checkpoint.config,
            engine=engine,
            blobs=blobs,
            telemetry=RecordingTelemetry(),
            clock=SystemClock(),
        )


@pytest.fixture
async def handler(checkpoint: Checkpoint, blobs: Blobs) -> AsyncIterator[GenerateHandler]:
    with ComputeThread(threads=1) as compute:
        async with serving(checkpoint, blobs, compute, SMALL) as served:
            yield served


def context(deadline_in_seconds: float = 60.0) -> RequestContext:
    now = SystemClock().unix_seconds()
    return RequestContext(request_id="r-1", deadline_unix_seconds=now + deadline_in_seconds)


def request(prompt: int = 40, **changes: object) -> GenerateRequest:
    """A request with a made-up prompt of ``prompt`` tokens."""
    ids = torch.randint(512, (prompt,), generator=torch.Generator().manual_seed(prompt)).tolist()
    values: dict[str, object] = {
        "model": MODEL,
        "prompt_ids": encode_ids(ids),
        "max_tokens": 24,
        "temperature": 1.0,
        "top_p": 0.95,
        "seed": 5,
        "stop_ids": (),
    }
    return GenerateRequest(**(values | changes))  # type: ignore[arg-type]
