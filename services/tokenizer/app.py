"""Wiring of the tokenizer service: checkpoint, prompt desk, and the calls that are answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from schemas import names
from schemas.chat import ChatRequest, CountRequest
from services.tokenizer.checkpoint import Checkpoint, load_checkpoint
from services.tokenizer.config import TokenizerConfig
from services.tokenizer.conversation import ConversationReader
from services.tokenizer.count import CountHandler
from services.tokenizer.handlers import ChatHandler
from services.tokenizer.media import MediaDesk
from services.tokenizer.prompts import PromptDesk
from services.tokenizer.variants import variants
from shared.calls.serve import serve
from shared.language.grammar.compiler import GrammarCompiler
from shared.language.grammar.tokens import TokenTable
from shared.language.prompt import PromptEncoder

if TYPE_CHECKING:
    from shared.service import Process

CONTRACT_VERSION = "1.0.0"


@asynccontextmanager
async def app(config: TokenizerConfig, process: "Process") -> AsyncIterator[None]:
    """Entered: the vocabulary is loaded and chats are admitted. Left: admitted ones had time to finish."""
    checkpoint = await asyncio.to_thread(load_checkpoint, config.checkpoint_dir)
    desk = prompt_desk(config, checkpoint, process)
    async with _chats(config, desk, process), _counts(config, desk, process):
        yield


def _chats(config: TokenizerConfig, desk: PromptDesk, process: "Process") -> AbstractAsyncContextManager[str]:
    handler = ChatHandler(
        desk=desk,
        grammars=GrammarCompiler(TokenTable(desk.checkpoint.vocabulary), masks=False),
        thinking_budget_tokens=config.thinking_budget_tokens,
        bus=process.bus,
        blobs=process.blobs,
        telemetry=process.telemetry,
        clock=process.clock,
    )
    return serve(
        process.bus,
        process.clock,
        name=names.SERVICE_TOKENIZER,
        subject=names.chat(config.served_model),
        handler=handler,
        body_type=ChatRequest,
        check=handler.check,
        max_calls=config.max_calls,
        version=CONTRACT_VERSION,
        metadata=announcement(config, desk.checkpoint),
    )


def _counts(config: TokenizerConfig, desk: PromptDesk, process: "Process") -> AbstractAsyncContextManager[str]:
    handler = CountHandler(desk, process.telemetry)
    return serve(
        process.bus,
        process.clock,
        name=names.SERVICE_TOKEN_COUNTS,
        subject=names.count(config.served_model),
        handler=handler,
        body_type=CountRequest,
        check=handler.check,
        max_calls=config.max_calls,
        version=CONTRACT_VERSION,
        metadata={"model": config.served_model},
    )


def prompt_desk(config: TokenizerConfig, checkpoint: Checkpoint, process: "Process") -> PromptDesk:
    media = MediaDesk(
        bus=process.bus,
        blobs=process.blobs,
        clock=process.clock,
        silence_seconds=config.media_silence_seconds,
        attempts=config.media_attempts,
        parallel=config.media_parallel,
    )
    return PromptDesk(
        model=config.served_model,
        checkpoint=checkpoint,
        encoder=PromptEncoder(checkpoint.vocabulary, max_cached_chars=config.cache_chars),
        reader=ConversationReader(process.blobs),
        media=media,
        max_media=config.max_media,
        telemetry=process.telemetry,
        clock=process.clock,
    )


ALWAYS = ("grammar", "partial", "thinking_budget", "sampling", "logprobs", "deterministic", "resumable")
"""Capabilities that need nothing of a checkpoint."""


def announcement(config: TokenizerConfig, checkpoint: Checkpoint) -> dict[str, str]:
    """What discovery says of this model, and the gateway's ``/v1/models`` after it."""
    found = {
        "image": checkpoint.has_vision,
        "video": checkpoint.has_video,
        "thinking": checkpoint.thinks,
        "tools": checkpoint.has_tools,
    }
    able = [name for name, has in found.items() if has]
    return {
        "model": config.served_model,
        "tokenizer_digest": checkpoint.vocabulary.digest,
        "context_length": str(checkpoint.context_length),
        "capabilities": ",".join((*able, *ALWAYS)),
        "licence": checkpoint.licence,
        "random_weights": "true" if checkpoint.defaults.moontide_random_weights else "false",
        "variants": msgspec.json.encode(variants(config.served_model, checkpoint)).decode(),
    }
