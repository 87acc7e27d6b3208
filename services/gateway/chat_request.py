"""A checked body as the ``ChatRequest`` that a tokenizer understands: messages content-addressed, media by reference.

Input: ``ChatBody``, the model that it means, and who asks. Output: ``ChatRequest``. It must not know how the request is
called or answered.
"""

import secrets

from schemas import codec
from schemas.blobs import INLINE_MAX_BYTES, Payload
from schemas.chat import ChatRequest, Message, ModelVariant, Part, Role, Sampling, TextPart, ToolCall
from schemas.request import Principal
from services.gateway import chat_body
from services.gateway.capabilities import chooses_tools
from services.gateway.chat_body import ChatBody, MessageBody, TextContent
from services.gateway.media_input import MediaInput
from services.gateway.models import Target
from shared.blobs.store import BlobStore

SEED_LIMIT = 2**31


class ChatRequests:
    def __init__(self, blobs: BlobStore, media: MediaInput) -> None:
        self._blobs = blobs
        self._media = media

    async def build(self, body: ChatBody, target: Target, principal: Principal) -> ChatRequest:
        """Raises BadInput naming the field of a part that cannot be used."""
        encoded = [
            await self.encoded(message, f"messages[{index}].content", principal)
            for index, message in enumerate(body.messages)
        ]
        tools, tool_choice = tools_of(body, target)
        thinking = thinks(body, target)
        return ChatRequest(
            model=target.model,
            messages=await self._payloads(encoded),
            tools=await self._blobs.inline_or_put(tools),
            tool_choice=tool_choice,
            response_format=await self._blobs.inline_or_put(chat_body.response_format(body)),
            thinking=thinking,
            preserve_thinking=chat_body.keeps_thinking(body),
            thinking_budget_tokens=thinking_budget(body, target) if thinking else None,
            partial=chat_body.continues(body),
            sampling=sampling(body, target.variant),
            cache_key=body.prompt_cache_key or "",
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

    async def encoded(self, body: MessageBody, path: str, principal: Principal) -> bytes:
        """A ``Message`` as it is stored; ``path``: of its content. Raises BadInput naming the field."""
        content = [TextContent(text=body.content)] if isinstance(body.content, str) else body.content or []
        parts: list[Part] = []
        for index, item in enumerate(content):
            if isinstance(item, TextContent):
                parts.append(TextPart(text=item.text))
            else:
                parts.append(await self._media.part(item, f"{path}[{index}]", principal))
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


def thinks(body: ChatBody, target: Target) -> bool:
    return chat_body.thinks(body, default=target.variant is None or target.variant.thinking)


def thinking_budget(body: ChatBody, target: Target) -> int | None:
    if body.thinking is not None and body.thinking.budget_tokens is not None:
        return body.thinking.budget_tokens
    return target.variant.thinking_budget_tokens if target.variant is not None else None


def tools_of(body: ChatBody, target: Target) -> tuple[bytes, bytes]:
    """Tools and the choice among them. A model that keeps no choice is not shown what it may not call."""
    if body.tool_choice == "none" and not chooses_tools(target.capabilities):
        return b"", b""
    return chat_body.tools(body), chat_body.tool_choice(body)


def sampling(body: ChatBody, variant: ModelVariant | None = None) -> Sampling:
    """The variant's values where the request has none; what then is None is the checkpoint's to say. The seed is fixed
    here when the client gives none: later attempts must draw the same tokens as the first."""
    temperature, top_p, max_tokens = body.temperature, body.top_p, chat_body.max_tokens(body)
    if variant is not None:
        temperature = variant.temperature if temperature is None else temperature
        top_p = variant.top_p if top_p is None else top_p
        max_tokens = variant.max_tokens if max_tokens is None else max_tokens
    return Sampling(
        temperature=temperature,
        top_p=top_p,
        seed=body.seed if body.seed is not None else secrets.randbelow(SEED_LIMIT),
        max_tokens=max_tokens,
        stop=chat_body.stops(body),
        top_k=body.top_k or None,
        min_p=body.min_p or None,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=body.repetition_penalty or 1.0,
        logit_bias=logit_bias(body),
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )


def logit_bias(body: ChatBody) -> tuple[tuple[int, float], ...]:
    """Sorted by token id. The last one counts where two spellings name one token."""
    biases = {int(token): bias for token, bias in (body.logit_bias or {}).items()}
    return tuple(sorted(biases.items()))
