"""The body of ``POST /v1/chat/completions`` as typed structs: what OpenAI clients and Kimi's own fields send.

Input: JSON bytes. Output: ``ChatBody``, or BadInput naming the field. Values that would change the answer and are
not supported are refused by name; what only concerns billing, storage or identity is accepted and ignored.
It must not know where media are kept or what happens to a request.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from services.gateway.json_body import decode_body, unsupported
from shared.errors import BadInput

MAX_MESSAGES = 2048
MAX_STOPS = 5
MAX_STOP_BYTES = 32
MAX_TOOLS = 128

IMAGE, VIDEO, TOOLS, TOOL_CHOICE, RESPONSE_FORMAT = "image", "video", "tools", "tool_choice", "response_format"
"""Capabilities that models announce, as far as the gateway asks for them."""

Count = Annotated[int, Meta(ge=1, le=1 << 20)]


class Url(Struct, frozen=True, kw_only=True):
    url: str
    detail: str | None = None


class FileReference(Struct, frozen=True, kw_only=True):
    file_id: str


class TextContent(Struct, frozen=True, kw_only=True, tag_field="type", tag="text"):
    text: str


class ImageContent(Struct, frozen=True, kw_only=True, tag_field="type", tag="image_url"):
    image_url: str | Url


class VideoContent(Struct, frozen=True, kw_only=True, tag_field="type", tag="video_url"):
    video_url: str | Url


class FileContent(Struct, frozen=True, kw_only=True, tag_field="type", tag="file"):
    file: FileReference


Content = TextContent | ImageContent | VideoContent | FileContent


class FunctionCall(Struct, frozen=True, kw_only=True):
    name: str
    arguments: str


class ToolCallBody(Struct, frozen=True, kw_only=True):
    id: str
    function: FunctionCall
    type: Literal["function", "builtin_function"] = "function"


class MessageBody(Struct, frozen=True, kw_only=True):
    """Fields that a client echoes from an earlier answer and that carry nothing are ignored."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Content] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallBody] | None = None
    tool_call_id: str | None = None
    partial: bool | None = None


class ThinkingBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: Literal["enabled", "disabled"] = "enabled"
    keep: Literal["all"] | None = None


class TemplateArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    thinking: bool | None = None
    preserve_thinking: bool | None = None


class StreamOptions(Struct, frozen=True, kw_only=True):
    include_usage: bool | None = None


class ResponseFormat(Struct, frozen=True, kw_only=True):
    """Checked for shape only: passed through byte for byte."""

    type: Literal["text", "json_object", "json_schema"]


class ToolFunction(Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(pattern=r"^\$?[a-zA-Z_][a-zA-Z0-9_-]{0,63}$")]


class ToolBody(Struct, frozen=True, kw_only=True):
    """Checked for shape only: the tool objects are passed through byte for byte."""

    type: Literal["function", "builtin_function"]
    function: ToolFunction


class ChatBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str
    messages: Annotated[list[MessageBody], Meta(min_length=1, max_length=MAX_MESSAGES)]
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    thinking: ThinkingBody | None = None
    chat_template_kwargs: TemplateArguments | None = None
    tools: msgspec.Raw = msgspec.Raw(b"null")
    tool_choice: str | dict[str, Any] | None = None
    response_format: msgspec.Raw = msgspec.Raw(b"null")
    # Accepted with their neutral value only.
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    modalities: list[str] | None = None
    # Accepted and ignored: they do not change the answer.
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    parallel_tool_calls: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None


def parse(data: bytes) -> ChatBody:
    """Raises BadInput whose ``param`` is the JSON path of the first field that is wrong."""
    body = decode_body(data, ChatBody)
    _check_neutral(body)
    _check_stops(stops(body))
    _check_thinking(body)
    _check_tools(body)
    _format_type(body)
    for index, message in enumerate(body.messages):
        _check_message(message, f"messages[{index}]")
    return body


def stops(body: ChatBody) -> tuple[str, ...]:
    if body.stop is None:
        return ()
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)


def thinks(body: ChatBody) -> bool:
    """Kimi's default is to think."""
    if body.thinking is not None:
        return body.thinking.type == "enabled"
    arguments = body.chat_template_kwargs
    return arguments is None or arguments.thinking is not False


def keeps_thinking(body: ChatBody) -> bool:
    """Whether the reasoning of earlier turns stays in the prompt."""
    arguments = body.chat_template_kwargs
    kept = arguments is not None and arguments.preserve_thinking is True
    return kept or (body.thinking is not None and body.thinking.keep == "all")


def tools(body: ChatBody) -> bytes:
    """The JSON array as it was sent; empty when there is none or none may be called."""
    data = bytes(body.tools)
    return b"" if data in (b"null", b"[]") or body.tool_choice == "none" else data


def tool_choice(body: ChatBody) -> bytes:
    """JSON; empty for the default, and where ``tools`` has said it already."""
    if body.tool_choice in (None, "auto") or not tools(body):
        return b""
    return msgspec.json.encode(body.tool_choice)


def response_format(body: ChatBody) -> bytes:
    """The JSON object as it was sent; empty for plain text."""
    return b"" if _format_type(body) == "text" else bytes(body.response_format)


def check_served(body: ChatBody, capabilities: frozenset[str]) -> None:
    """Raises BadInput naming the first field that the model cannot honour. What a model that announces nothing can do
    with media and tools is found out by asking it."""
    for path, needed in _needs(body):
        optional = needed in (IMAGE, VIDEO, TOOLS)
        if needed not in capabilities and (capabilities or not optional):
            raise unsupported(path, f"this model does not have the capability {needed!r}")


def _needs(body: ChatBody) -> Iterator[tuple[str, str]]:
    """(JSON path, capability) of everything in the body that not every model can do."""
    if tools(body):
        yield "tools", TOOLS
    if body.tool_choice not in (None, "auto", "none"):
        yield "tool_choice", TOOL_CHOICE
    if _format_type(body) != "text":
        yield "response_format.type", RESPONSE_FORMAT
    for index, message in enumerate(body.messages):
        for place, part in enumerate(message.content if isinstance(message.content, list) else ()):
            if isinstance(part, ImageContent | VideoContent):
                yield f"messages[{index}].content[{place}]", IMAGE if isinstance(part, ImageContent) else VIDEO


def _format_type(body: ChatBody) -> str:
    given = decode_body(bytes(body.response_format), ResponseFormat | None, prefix="response_format")
    return given.type if given is not None else "text"


def _check_neutral(body: ChatBody) -> None:
    neutral: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
        ("n", body.n, (None, 1)),
        ("presence_penalty", body.presence_penalty, (None, 0)),
        ("frequency_penalty", body.frequency_penalty, (None, 0)),
        ("logprobs", body.logprobs, (None, False)),
        ("top_logprobs", body.top_logprobs, (None, 0)),
        ("logit_bias", body.logit_bias, (None, {})),
        ("modalities", body.modalities, (None, ["text"])),
    )
    for name, value, allowed in neutral:
        if value not in allowed:
            raise unsupported(name, f"only {' or '.join(repr(item) for item in allowed[1:])} is supported")


def _check_stops(given: tuple[str, ...]) -> None:
    if len(given) > MAX_STOPS:
        raise BadInput("invalid_value", f"stop: at most {MAX_STOPS} strings are allowed", param="stop")
    for text in given:
        if not 1 <= len(text.encode()) <= MAX_STOP_BYTES:
            raise BadInput("invalid_value", f"stop: each string must have 1 to {MAX_STOP_BYTES} bytes", param="stop")


def _check_thinking(body: ChatBody) -> None:
    arguments = body.chat_template_kwargs
    if body.thinking is None or arguments is None or arguments.thinking is None:
        return
    if arguments.thinking != (body.thinking.type == "enabled"):
        message = "chat_template_kwargs.thinking contradicts thinking.type"
        raise BadInput("invalid_value", message, param="chat_template_kwargs.thinking")


def _check_tools(body: ChatBody) -> None:
    listed = decode_body(bytes(body.tools), list[ToolBody] | None, prefix="tools") or []
    if len(listed) > MAX_TOOLS:
        raise BadInput("invalid_value", f"tools: at most {MAX_TOOLS} are allowed", param="tools")


def _check_message(message: MessageBody, path: str) -> None:
    if message.partial:
        raise unsupported(f"{path}.partial", "continuing a message is not supported")
    if message.content is None and message.role != "assistant":
        raise BadInput("missing_field", f"{path}.content is required", param=f"{path}.content")
    if message.role == "tool" and not message.tool_call_id:
        raise BadInput("missing_field", f"{path}.tool_call_id is required", param=f"{path}.tool_call_id")
    if message.tool_calls and message.role != "assistant":
        raise BadInput(
            "invalid_value", f"{path}.tool_calls: only the assistant calls tools", param=f"{path}.tool_calls"
        )
