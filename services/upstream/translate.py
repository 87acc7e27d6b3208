"""Our words to the endpoint's and back. Pure.

Input: a ``ChatRequest`` with its messages and rendered media; JSON of chunks and answers. Output: the request as a
dictionary, and ``Piece``s. A streamed chunk and an unstreamed answer are read by the same function. It must not know
how bytes travel.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec

from schemas.chat import ChatRequest, MediaPart, Message, Sampling, TextPart, Usage
from services.upstream.config import ToolMedia
from services.upstream.faults import Fault, Redact, broken, event_error

ContentPart = dict[str, Any]
"""One element of a message's ``content`` array, in OpenAI's shape."""


class ToolPiece(msgspec.Struct, frozen=True, kw_only=True):
    index: int | None = None
    id: str = ""
    name: str = ""
    arguments: str = ""


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """What one chunk says, or a whole unstreamed answer."""

    reasoning: str = ""
    content: str = ""
    tool_calls: tuple[ToolPiece, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None


def media_parts(messages: Sequence[Message]) -> list[MediaPart]:
    """All media of a conversation, in order."""
    return [part for message in messages for part in message.content if isinstance(part, MediaPart)]


def request_body(
    chat: ChatRequest,
    messages: Sequence[Message],
    media: Sequence[Sequence[ContentPart]],
    *,
    model: str,
    tools: Sequence[Any],
    response_format: Any,
    thinking: dict[str, Any],
    tool_media: ToolMedia = "user_message",
    written: Sequence[msgspec.Raw | None] = (),
) -> dict[str, Any]:
    """The request, not yet said whether streamed. ``media``: what stands for each of ``media_parts``. ``written``: of
    each message what ``text_message`` made of it, where somebody has kept that."""
    body: dict[str, Any] = {"model": model, "messages": list(_messages(messages, iter(media), tool_media, written))}
    body |= _sampling(chat.sampling) | thinking
    if tools:
        body["tools"] = list(tools)
    if chat.tool_choice:
        body["tool_choice"] = msgspec.json.decode(chat.tool_choice)
    if response_format is not None:
        body["response_format"] = response_format
    return body


def text_message(message: Message) -> msgspec.Raw | None:
    """A message as it stands in every request that holds it; None for one with media."""
    return None if media_parts([message]) else msgspec.Raw(msgspec.json.encode(_message(message, iter(()))))


def encode_request(body: dict[str, Any], *, stream: bool) -> bytes:
    how = {"stream": True, "stream_options": {"include_usage": True}} if stream else {"stream": False}
    return msgspec.json.encode(body | how)


def thinking_fields(switch: Literal["moonshot", "template", "none"], chat: ChatRequest) -> dict[str, Any]:
    """Only what differs from every endpoint's default (think, keep no old thoughts): others need not know the field."""
    if switch == "none" or (chat.thinking and not chat.preserve_thinking):
        return {}
    if switch == "template":
        kwargs = {"thinking": chat.thinking}
        return {"chat_template_kwargs": kwargs | ({"preserve_thinking": True} if chat.preserve_thinking else {})}
    told: dict[str, Any] = {"type": "enabled" if chat.thinking else "disabled"}
    return {"thinking": told | ({"keep": "all"} if chat.preserve_thinking else {})}


def _sampling(sampling: Sampling) -> dict[str, Any]:
    named = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "max_tokens": sampling.max_tokens,
        "stop": list(sampling.stop) or None,
    }
    return {name: value for name, value in named.items() if value is not None}


def _messages(
    messages: Sequence[Message],
    rendered: Iterator[Sequence[ContentPart]],
    tool_media: ToolMedia,
    written: Sequence[msgspec.Raw | None],
) -> Iterator[dict[str, Any] | msgspec.Raw]:
    """Most endpoints take text only as a tool's result, and want all results of a step right behind its calls. So
    what tools show follows behind the last of them, as a message of the user's."""
    shown: list[ContentPart] = []
    for position, message in enumerate(messages):
        known = written[position] if written else None
        if known is None and message.role == "tool" and tool_media == "user_message" and media_parts([message]):
            shown += _shown(message, rendered)
            message = _without_media(message)
        yield known or _message(message, rendered)
        if shown and (position + 1 == len(messages) or messages[position + 1].role != "tool"):
            yield {"role": "user", "content": shown}
            shown = []


def _shown(message: Message, rendered: Iterator[Sequence[ContentPart]]) -> Iterator[ContentPart]:
    for part in media_parts([message]):
        yield {"type": "text", "text": f"[{part.kind} {part.name!r}, from the result of {message.tool_call_id}]"}
        yield from next(rendered)


def _without_media(message: Message) -> Message:
    """Its media as words, where they stood."""
    words = (
        part if isinstance(part, TextPart) else TextPart(text=f"[{part.kind} {part.name!r}: shown in the next message]")
        for part in message.content
    )
    return msgspec.structs.replace(message, content=tuple(words))


def _message(message: Message, rendered: Iterator[Sequence[ContentPart]]) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": message.role, "content": _content(message, rendered)}
    if message.name:
        wire["name"] = message.name
    if message.reasoning:
        wire["reasoning_content"] = message.reasoning
    if message.tool_call_id:
        wire["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        wire["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return wire


def _content(message: Message, rendered: Iterator[Sequence[ContentPart]]) -> str | list[ContentPart]:
    """Plain text stays a string: not every endpoint takes an array in every role."""
    if all(isinstance(part, TextPart) for part in message.content):
        return "".join(part.text for part in message.content if isinstance(part, TextPart))
    parts: list[ContentPart] = []
    for part in message.content:
        parts += [{"type": "text", "text": part.text}] if isinstance(part, TextPart) else next(rendered)
    return parts


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Words(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Words | None = None
    message: _Words | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_chunks = msgspec.json.Decoder(_Chunk)


def read_piece(data: bytes, redact: Redact) -> Piece:
    """One chunk or one whole answer. Raises Fault for an error inside it, and for what is no chat answer."""
    try:
        chunk = _chunks.decode(data)
    except msgspec.MsgspecError as error:
        raise _malformed() from error
    if chunk.error is not None or chunk.choices is None:
        raise event_error(data, redact) if _is_error(data) else _malformed()
    choice = next((choice for choice in chunk.choices if choice.index == 0), None)
    if choice is None:
        return Piece(usage=_usage(chunk.usage))
    words = choice.delta or choice.message or _Words()
    return Piece(
        reasoning=words.reasoning_content or words.reasoning or "",
        content=words.content or "",
        tool_calls=tuple(_tool_piece(call) for call in words.tool_calls or ()),
        finish_reason=choice.finish_reason,
        usage=_usage(chunk.usage or choice.usage),
    )


def _malformed() -> Fault:
    return broken("malformed", "the model's endpoint sent something that is no chat answer")


def _is_error(data: bytes) -> bool:
    """``{"error": …}``, or vLLM's older ``{"object": "error", …}``."""
    told = msgspec.json.decode(data)
    return isinstance(told, dict) and (told.get("error") is not None or told.get("object") == "error")


def _tool_piece(call: _Call) -> ToolPiece:
    function = call.function or _Function()
    arguments = function.arguments
    if isinstance(arguments, dict):
        arguments = msgspec.json.encode(arguments).decode()
    return ToolPiece(index=call.index, id=call.id or "", name=function.name or "", arguments=arguments or "")


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details else usage.cached_tokens
    reasoning = usage.completion_tokens_details.reasoning_tokens if usage.completion_tokens_details else 0
    return Usage(
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        cached_tokens=cached or 0,
        reasoning_tokens=reasoning or 0,
    )
