"""Wiring of the tokenizer service: checkpoint, media desk, chat handler, and the call they answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from schemas import names
from schemas.chat import ChatRequest
from services.tokenizer.checkpoint import Checkpoint, load_checkpoint
from services.tokenizer.config import TokenizerConfig
from services.tokenizer.conversation import ConversationReader
from services.tokenizer.handlers import ChatHandler
from services.tokenizer.media import MediaDesk
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
    handler = chat_handler(config, checkpoint, process)
    async with serve(
        process.bus,
        process.clock,
        name=names.SERVICE_TOKENIZER,
        subject=names.chat(config.served_model),
        handler=handler,
        body_type=ChatRequest,
        check=handler.check,
        max_calls=config.max_calls,
        version=CONTRACT_VERSION,
        metadata=announcement(config, checkpoint),
    ):
        yield


def chat_handler(config: TokenizerConfig, checkpoint: Checkpoint, process: "Process") -> ChatHandler:
    desk = MediaDesk(
        bus=process.bus,
        blobs=process.blobs,
        clock=process.clock,
        silence_seconds=config.media_silence_seconds,
        attempts=config.media_attempts,
        parallel=config.media_parallel,
    )
    return ChatHandler(
        model=config.served_model,
        checkpoint=checkpoint,
        grammars=GrammarCompiler(TokenTable(checkpoint.vocabulary), masks=False),
        encoder=PromptEncoder(checkpoint.vocabulary, max_cached_chars=config.cache_chars),
        reader=ConversationReader(process.blobs),
        desk=desk,
        max_media=config.max_media,
        bus=process.bus,
        blobs=process.blobs,
        telemetry=process.telemetry,
        clock=process.clock,
    )


def announcement(config: TokenizerConfig, checkpoint: Checkpoint) -> dict[str, str]:
    """What discovery says of this model, and the gateway's ``/v1/models`` after it."""
    media = "image,video," if checkpoint.has_vision else ""
    return {
        "model": config.served_model,
        "tokenizer_digest": checkpoint.vocabulary.digest,
        "context_length": str(checkpoint.context_length),
        "capabilities": f"{media}thinking,tools,grammar,deterministic,resumable",
        "licence": checkpoint.licence,
        "random_weights": "true" if checkpoint.defaults.moontide_random_weights else "false",
    }
