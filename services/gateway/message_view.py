"""Stored messages as people read them: text in place of references, bounded where a stream carries it.

Input: references from a ledger. Output: views. A message that has outlived the blob store is shown as expired. It must
not know which event a message belongs to.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec import UNSET

from schemas import codec
from schemas.blobs import BlobRef
from schemas.chat import MediaPart, Message, Part, TextPart
from services.gateway.run_event_body import CallView, MessageView
from shared.blobs.store import BlobStore
from shared.errors import Internal, NotFound

STREAM_CHARACTERS = 32 * 1024
"""Of one text of a message in a stream."""
WHOLE_CHARACTERS = 16 * 1024 * 1024


@dataclass(frozen=True)
class Shown:
    view: MessageView
    media: tuple[MediaPart, ...] = ()


class Messages:
    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def load(self, reference: BlobRef) -> Message | None:
        """None: expired. Raises Unavailable, Internal."""
        data = await self.text(reference)
        try:
            return codec.decode(data, Message) if data is not None else None
        except msgspec.MsgspecError as error:
            raise Internal("run.message", "a message of the run cannot be read") from error

    async def text(self, reference: BlobRef) -> bytes | None:
        """None: expired."""
        try:
            return await self._blobs.get(reference)
        except NotFound:
            return None

    async def arguments(self, reference: BlobRef) -> str:
        """Of a tool call, as the model wrote them; empty when they have expired."""
        data = await self.text(reference)
        return data.decode(errors="replace") if data is not None else ""

    async def shown(self, reference: BlobRef, role: str, limit: int = STREAM_CHARACTERS) -> Shown:
        """``role``: of a message that is not there any more; ``limit``: characters of each of its texts."""
        message = await self.load(reference)
        if message is None:
            return Shown(MessageView(role=role, content="", expired=True))
        media = tuple(part for part in message.content if isinstance(part, MediaPart))
        return Shown(message_view(message, limit), media)


def message_view(message: Message, limit: int) -> MessageView:
    content, reasoning = text_of(message.content), message.reasoning or ""
    arguments = [call.arguments for call in message.tool_calls]
    long = any(len(text) > limit for text in (content, reasoning, *arguments))
    calls = tuple(CallView(id=c.id, name=c.name, arguments=c.arguments[:limit]) for c in message.tool_calls)
    return MessageView(
        role=message.role,
        content=content[:limit],
        reasoning_content=reasoning[:limit] or UNSET,
        tool_calls=calls or UNSET,
        tool_call_id=message.tool_call_id or UNSET,
        truncated=long or UNSET,
    )


def text_of(parts: Sequence[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, TextPart))
