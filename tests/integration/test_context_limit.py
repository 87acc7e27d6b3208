"""Tokenizer and engine agree on the context: a prompt that fills it is answered, one token more is a 400."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from schemas import names
from schemas.chat import ChatFinished, ChatItem, ChatRequest, Message, Sampling, TextPart
from schemas.codec import encode
from schemas.request import RequestContext
from services.inference.app import app as inference
from services.inference.config import InferenceConfig
from services.tokenizer.app import app as tokenizer
from services.tokenizer.config import TokenizerConfig
from shared.blobs.store import BlobStore
from shared.bus.fake import FakeBroker
from shared.bus.interface import WorkQueue
from shared.calls.follow import follow
from shared.calls.interface import CallTarget
from shared.clock import SystemClock
from shared.errors import BadInput
from shared.language.specials import tokenizer_config
from shared.language.vocabulary import tiny_vocabulary
from shared.model import presets
from shared.model.initialise import initialise
from shared.service import Process
from shared.telemetry.tracing import Telemetry
from tests.measure.long_context import measure

CONTEXT = 4096
ONE_TOKEN = "q"
"""Repeated n times it is n tokens: the tiny vocabulary does not merge it with itself."""


async def test_the_engine_serves_a_full_context_and_refuses_one_token_more(tmp_path: Path) -> None:
    """``make long-context``, with a shorter context."""
    figures = await measure(tmp_path, CONTEXT, threads=1)
    assert figures["served"] == {"prompt_tokens": CONTEXT, "completion_tokens": 1}
    assert figures["refused"]["status"] == 400
    assert f"{CONTEXT + 1} prompt tokens" in figures["refused"]["message"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("checkpoints") / "short"
    ranks = len(tiny_vocabulary().splitlines())
    document = presets.document("tiny", ranks)
    document["text_config"] |= {"max_position_embeddings": CONTEXT, "num_hidden_layers": 1}
    initialise(out, document, seed=1, vocabulary=tiny_vocabulary(), tokenizer_config=tokenizer_config(ranks))
    return out


@asynccontextmanager
async def running(directory: Path, blobs: Path) -> AsyncIterator[FakeBroker]:
    broker = FakeBroker(1)

    def process(name: str) -> Process:
        bus = broker.bus(name)
        return Process(
            name=name, bus=bus, blobs=BlobStore.open(blobs.as_uri()), telemetry=Telemetry(name, bus.instance, bus)
        )

    asking = process("tokenizer")
    await asking.bus.declare(
        WorkQueue(stream=names.STREAM_MEDIA, subjects=(names.MEDIA_ALL,), durable=names.DURABLE_INGEST)
    )
    async with (
        inference(InferenceConfig(checkpoint_dir=directory, threads=1), process("inference")),
        tokenizer(TokenizerConfig(checkpoint_dir=directory), asking),
    ):
        yield broker


async def chat(broker: FakeBroker, text: str, max_tokens: int | None) -> ChatFinished:
    message = encode(Message(role="user", content=(TextPart(text=text),)))
    body = ChatRequest(model="short", messages=(message,), sampling=Sampling(max_tokens=max_tokens))
    context = RequestContext(request_id="r-1", deadline_unix_seconds=SystemClock().unix_seconds() + 60)
    target = CallTarget(subject=names.chat("short"), context=context)
    items = [item async for item in follow(broker.bus("gateway"), SystemClock(), target, lambda: body, ChatItem)]
    assert isinstance(items[-1], ChatFinished)
    return items[-1]


@pytest.mark.parametrize("max_tokens", [None, 1])
async def test_a_chat_that_fills_the_context_gets_its_one_token(
    directory: Path, tmp_path: Path, max_tokens: int | None
) -> None:
    async with running(directory, tmp_path) as broker, asyncio.timeout(60):
        frame = (await chat(broker, ONE_TOKEN, 1)).usage.prompt_tokens - 1
        full = await chat(broker, ONE_TOKEN * (CONTEXT - frame), max_tokens)
        assert full.usage.prompt_tokens == CONTEXT
        assert full.usage.completion_tokens <= 1
        with pytest.raises(BadInput) as refused:
            await chat(broker, ONE_TOKEN * (CONTEXT - frame + 1), max_tokens)
        assert refused.value.param == "messages"
        assert f"{CONTEXT + 1} tokens" in refused.value.message
