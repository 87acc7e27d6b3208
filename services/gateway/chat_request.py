"""A checked body as the ``ChatRequest`` that a tokenizer understands: messages content-addressed, media by reference.

Input: ``ChatBody`` and who asks. Output: ``ChatRequest``. It must not know how the request is called or answered.
"""

import secrets

from schemas import codec
from schemas.blobs import INLINE_MAX_BYTES, Payload
from schemas.chat import ChatRequest, Message, Part, Role, Sampling, TextPart, ToolCall
from schemas.request import Principal
from services.gateway import chat_body
from services.gateway.chat_body import ChatBody, MessageBody, TextContent
from services.gateway.media_input import MediaInput
from shared.blobs.store import BlobStore

SEED_LIMIT = 2**31


class ChatRequests:
    def __init__(self, blobs: BlobStore, media: MediaInput) -> None:
        self._blobs = blobs
        self._media = media

    async def build(self, body: ChatBody, model: str, principal: Principal) -> ChatRequest:
        """Raises BadInput naming the field of a part that cannot be used."""
        encoded = [
            await self._encoded(message, f"messages[{index}]", principal) for index, message in enumerate(body.messages)
        ]
        return ChatRequest(
            model=model,
            messages=await self._payloads(encoded),
            tools=await self._blobs.inline_or_put(chat_body.tools(body)),
            tool_choice=chat_body.tool_choice(body),
            response_format=await self._blobs.inline_or_put(chat_body.response_format(body)),
            thinking=chat_body.thinks(body),
            preserve_thinking=chat_body.keeps_thinking(body),
            sampling=sampling(body),
        )

    async def _payloads(self, encoded: list[bytes]) -> tuple[Payload, ...]:
        """Inline as long as all of them together stay small, since they travel in one message."""
        payloads: list[Payload] = []
        room = INLINE_MAX_BYTES
        for data in encoded:
            fits = len(data) <= room
            room -= len(data) if fits else 0
            payloads.append(data if fits else await self._blobs.put(data))
        return tuple(payloads)

    async def _encoded(self, body: MessageBody, path: str, principal: Principal) -> bytes:
        content = [TextContent(text=body.content)] if isinstance(body.content, str) else body.content or []
        parts: list[Part] = []
        for index, item in enumerate(content):
            if isinstance(item, TextContent):
                parts.append(TextPart(text=item.text))
            else:
                parts.append(await self._media.part(item, f"{path}.content[{index}]", principal))
        return codec.encode(message(body, tuple(parts)))


def message(body: MessageBody, parts: tuple[Part, ...]) -> Message:
    role: Role = "system" if body.role == "developer" else body.role
    return Message(
        role=role,
        content=parts,
        name=body.name,
        reasoning=body.reasoning_content if body.reasoning_content is not None else body.reasoning,
        tool_calls=tuple(
            ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in body.tool_calls or ()
        ),
        tool_call_id=body.tool_call_id,
    )


def sampling(body: ChatBody) -> Sampling:
    """The seed is fixed here when the client gives none: later attempts must draw the same tokens as the first."""
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed if body.seed is not None else secrets.randbelow(SEED_LIMIT),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        stop=chat_body.stops(body),
    )
