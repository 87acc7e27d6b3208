"""Engine, shard and encoder apart answer as one process does, bit for bit, also when shard and encoder are replaced."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas import names
from schemas.generation import GenerateRequest, GenerationItem, TokensGenerated
from services.inference.app import app
from services.inference.command import main as command
from services.inference.config import InferenceConfig, Role
from services.inference.handlers import GenerateHandler
from shared.blobs.store import BlobStore
from shared.bus.fake import FakeBroker
from shared.calls.follow import follow
from shared.calls.interface import CallTarget
from shared.clock import SystemClock
from shared.errors import BadInput
from shared.service import Process
from shared.telemetry.tracing import Telemetry
from tests.unit.inference.conftest import Blobs, Caller, context, request
from tests.unit.inference.test_generate import answer, spans_of


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "parts"
    assert command(["checkpoint", "init", "--preset", "tiny", "--seed", "3", "--out", str(out)]) == 0
    return out


@asynccontextmanager
async def part(role: Role, directory: Path, broker: FakeBroker, blobs: Path) -> AsyncIterator[Process]:
    bus = broker.bus(role)
    telemetry = Telemetry("inference", bus.instance, bus)
    process = Process(name="inference", bus=bus, blobs=BlobStore.open(blobs.as_uri()), telemetry=telemetry)
    async with app(InferenceConfig(checkpoint_dir=directory, role=role, threads=1), process):
        yield process


async def ask(broker: FakeBroker, body: GenerateRequest, caller: Caller) -> None:
    target = CallTarget(subject=names.generate("parts"), context=context())
    async for item in follow(broker.bus("tokenizer"), SystemClock(), target, lambda: body, GenerationItem):
        await caller.send(item)


async def stored(blobs: Path) -> GenerateRequest:
    """With media whose patches lie in a real blob store."""
    made, store = Blobs(), BlobStore.open(blobs.as_uri())
    spans = []
    for span in spans_of(made):
        ref = await store.put(made.data[span.patches.key])
        spans.append(type(span)(position=span.position, tokens=span.tokens, grid=span.grid, patches=ref))
    return request(model="parts", media=tuple(spans), max_tokens=150, top_logprobs=1)


def pieces(caller: Caller) -> tuple[list[int], list[object]]:
    logprobs = [one for item in caller.items if isinstance(item, TokensGenerated) for one in item.logprobs]
    return caller.ids, logprobs


async def test_parts_answer_as_one_process_and_survive_each_other(directory: Path, tmp_path: Path) -> None:
    body = await stored(tmp_path)
    whole = Caller()
    broker = FakeBroker(1)
    async with part("all", directory, broker, tmp_path):
        await ask(broker, body, whole)
    broker = FakeBroker(2)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(part("shard", directory, broker, tmp_path))
        encoder = await stack.enter_async_context(part("encoder", directory, broker, tmp_path))
        await stack.enter_async_context(part("engine", directory, broker, tmp_path))
        split, broken = Caller(), Caller()
        await ask(broker, body, split)
        assert pieces(split) == pieces(whole)
        assert len(split.ids) == 150
        asking = asyncio.create_task(ask(broker, body, broken))
        await broken.first.wait()
        first.bus.kill()  # type: ignore[attr-defined]
        encoder.bus.kill()  # type: ignore[attr-defined]
        await stack.enter_async_context(part("shard", directory, broker, tmp_path))
        await stack.enter_async_context(part("encoder", directory, broker, tmp_path))
        await asking
        assert pieces(broken) == pieces(whole)
        info = (await broker.bus("any").discover(names.SERVICE_ENGINE))[0].metadata
        assert info["system_fingerprint"] == whole.finished.system_fingerprint
        assert info["load"] == "0"
        assert int(info["pages_available"]) == int(info["pages"])


async def test_logprobs_come_with_every_token_and_prefixes_are_counted(handler: GenerateHandler) -> None:
    first = await answer(handler, request(200, top_logprobs=2))
    ids, logprobs = pieces(first)
    assert len(logprobs) == len(ids) == 24
    assert all(len(one.top) == 2 and one.chosen <= 0 for one in logprobs)  # type: ignore[attr-defined]
    assert first.finished.cached_tokens == 0
    again = await answer(handler, request(200, top_logprobs=2))
    assert pieces(again) == (ids, logprobs)
    assert again.finished.cached_tokens == 192


class OnlyEven:
    """Only even ids; what became part of the answer is remembered."""

    def __init__(self) -> None:
        self.settled: list[int] = []

    def fill(self, bitmask: NDArray[np.int32]) -> None:
        bitmask[:] = 0x55555555

    def settle(self, token: int) -> int:
        self.settled.append(token)
        return token

    def accept(self, token: int) -> None:
        raise AssertionError("nothing was emitted before")


async def test_a_grammar_is_asked_before_each_token_and_told_after(handler: GenerateHandler) -> None:
    with pytest.raises(BadInput) as refused:
        handler.check(context(), request(grammar=b"{}"))
    assert refused.value.param == "grammar"
    mask = OnlyEven()

    async def compiled(source: bytes, max_tokens: int) -> OnlyEven:
        assert (source, max_tokens) == (b"{}", 24)
        return mask

    able = GenerateHandler(**(vars(handler) | {"compile_grammar": compiled}))
    caller = await answer(able, request(grammar=b"{}"))
    assert len(caller.ids) == 24
    assert not any(token % 2 for token in caller.ids)
    assert mask.settled == caller.ids
