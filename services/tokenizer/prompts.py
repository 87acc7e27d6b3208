"""What must be there before an engine can be asked, or tokens counted: conversation, media, prompt.

Input: ``ChatRequest``. Output: ``Readiness``, or what is wrong with the request. Knows nothing of answers.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from schemas import names
from schemas.chat import ChatRequest, MediaPart
from schemas.request import RequestContext
from schemas.telemetry import ATTR_INPUT_TOKENS, ATTR_MEDIA_TOKENS, SPAN_RENDER, SPAN_WAIT_MEDIA
from services.tokenizer.checkpoint import Checkpoint
from services.tokenizer.conversation import Conversation, ConversationReader
from services.tokenizer.media import MediaDesk, ReadyMedia
from shared.clock import Clock
from shared.errors import BadInput, NotFound
from shared.language.prompt import Prompt, PromptEncoder
from shared.language.template import opens_reasoning, render
from shared.telemetry.tracing import Telemetry

THREAD_CHARS = 20_000
"""Longer conversations are encoded in a thread, so that the streams of others go on."""


@dataclass(frozen=True)
class Readiness:
    conversation: Conversation
    prompt: Prompt
    opens_reasoning: bool
    """Whether the answer begins inside the reasoning."""
    media: Sequence[ReadyMedia]
    ingest_seconds: float


@dataclass(frozen=True)
class PromptDesk:
    """Where a request gets its prompt."""

    model: str
    checkpoint: Checkpoint
    encoder: PromptEncoder
    reader: ConversationReader
    media: MediaDesk
    max_media: int
    telemetry: Telemetry
    clock: Clock

    def check(self, request: ChatRequest) -> None:
        """What can be refused without any work."""
        if names.slug(request.model) != names.slug(self.model):
            raise NotFound("chat.other_model", f"this tokenizer serves {self.model}", param="model")
        if not request.messages:
            raise BadInput("chat.bad_request", "messages is empty", param="messages")

    async def prepare(self, request: ChatRequest, context: RequestContext) -> Readiness:
        conversation = await self.reader.read(request)
        self._check_abilities(conversation)
        started = self.clock.monotonic_seconds()
        media = await self._wait_media(conversation.media, context)
        ingest_seconds = self.clock.monotonic_seconds() - started if media else 0.0
        with self.telemetry.span(SPAN_RENDER) as span:
            prompt, opens = await self._render(conversation, request, media)
            span.set_attribute(ATTR_INPUT_TOKENS, len(prompt.ids))
        return Readiness(conversation, prompt, opens, media, ingest_seconds)

    def _check_abilities(self, conversation: Conversation) -> None:
        """Raises BadInput for what this checkpoint cannot read."""
        media = conversation.media
        if media and not self.checkpoint.has_vision:
            raise BadInput("chat.no_vision", f"{self.model} reads text only", param="messages")
        if not self.checkpoint.has_video and any(part.kind == "video" for part in media):
            raise BadInput("chat.no_video", f"{self.model} reads images, not videos", param="messages")
        if len(media) > self.max_media:
            raise BadInput("chat.too_much_media", f"more than {self.max_media} images and videos", param="messages")
        if conversation.tools and not self.checkpoint.has_tools:
            raise BadInput("chat.no_tools", f"{self.model} calls no tools", param="tools")

    async def _wait_media(self, parts: Sequence[MediaPart], context: RequestContext) -> list[ReadyMedia]:
        if not parts:
            return []
        with self.telemetry.span(SPAN_WAIT_MEDIA) as span:
            inside = msgspec.structs.replace(context, traceparent=span.traceparent)
            media = await self.media.prepare(parts, inside)
            span.set_attribute(ATTR_MEDIA_TOKENS, sum(item.manifest.media_tokens for item in media))
            return media

    async def _render(
        self, conversation: Conversation, request: ChatRequest, media: Sequence[ReadyMedia]
    ) -> tuple[Prompt, bool]:
        def work() -> tuple[Prompt, bool]:
            turns = render(
                conversation.messages,
                conversation.tools,
                template=self.checkpoint.template,
                thinking=request.thinking,
                preserve_thinking=request.preserve_thinking,
                partial=request.partial,
            )
            return self.encoder.encode(turns, [item.manifest for item in media]), opens_reasoning(turns)

        return await asyncio.to_thread(work) if conversation.chars > THREAD_CHARS else work()
