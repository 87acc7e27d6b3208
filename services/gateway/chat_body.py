"""The body of ``POST /v1/chat/completions`` as typed structs, and what its fields mean together.

Input: what OpenAI clients and Kimi's own ones send. Output: plain values for a ``ChatRequest``. What a sender got wrong
is found by ``chat_rules``. It must not know where media are kept or what happens to a request.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from services.gateway.json_body import decode_body

MAX_MESSAGES = 2048
MAX_TOOLS = 128
MAX_CHOICES = 8
MAX_LOGIT_BIASES = 1024
MAX_TOP_LOGPROBS = 20
MAX_STEPS = 100_000
MAX_SECONDS = 7 * 24 * 3600.0
"""Of a run, waits included: its messages live a day longer (``blob_lifetime_seconds``)."""

Count = Annotated[int, Meta(ge=1, le=1 << 20)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
SpeakerName = Annotated[str, Meta(pattern=r"^[^<|>\r\n]*$", max_length=64)]
FormatName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$(?!\n)")]
ToolName = Annotated[str, Meta(pattern=r"^\$?[a-zA-Z_][a-zA-Z0-9_-]{0,63}$(?!\n)")]
"""Moonshot wants three characters at least (``kimi_rules``); a name with ``$`` is one of its builtin functions."""
TokenId = Annotated[str, Meta(pattern=r"^[0-9]{1,7}$(?!\n)")]


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
    name: Annotated[str, Meta(min_length=1, max_length=256)]
    arguments: str


class ToolCallBody(Struct, frozen=True, kw_only=True):
    id: str
    function: FunctionCall
    type: Literal["function", "builtin_function"] = "function"


class MessageBody(Struct, frozen=True, kw_only=True):
    """Fields that a client echoes from an earlier answer and that carry nothing are ignored."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Content] | None = None
    name: SpeakerName | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[ToolCallBody] | None = None
    tool_call_id: str | None = None
    partial: bool | None = None
    """Of the last message, an assistant's: the answer continues it, and does not repeat it."""


class ThinkingBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: Literal["enabled", "disabled"] = "enabled"
    keep: Literal["all"] | None = None
    """all: the reasoning of earlier turns stays in the prompt."""
    budget_tokens: Count | None = None
    """Reasoning is closed after so many tokens; not a field of Moonshot's API."""


class TemplateArguments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    thinking: bool | None = None
    preserve_thinking: bool | None = None


class BudgetBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of a run: what would exceed one of these is not begun. Not given: the limits of an agent."""

    max_steps: Annotated[int, Meta(ge=1, le=MAX_STEPS)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=1 << 50)] | None = None
    """Prompt and completion of all model calls."""
    max_seconds: Annotated[float, Meta(gt=0, le=MAX_SECONDS)] | None = None
    max_cost_usd: Annotated[float, Meta(gt=0, le=1e9)] | None = None


class StreamOptions(Struct, frozen=True, kw_only=True):
    include_usage: bool | None = None


class JsonSchemaFormat(Struct, frozen=True, kw_only=True):
    name: FormatName
    schema: dict[str, Any] | bool
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True, kw_only=True):
    """Passed through byte for byte."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class ToolFunction(Struct, frozen=True, kw_only=True):
    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """A JSON Schema of an object."""
    strict: bool | None = None


class ToolBody(Struct, frozen=True, kw_only=True):
    """Tool objects are passed through byte for byte."""

    type: Literal["function", "builtin_function"]
    function: ToolFunction


class ChosenFunction(Struct, frozen=True, kw_only=True):
    name: str


class NamedChoice(Struct, frozen=True, kw_only=True):
    function: ChosenFunction
    type: Literal["function", "builtin_function"] = "function"


def _nothing() -> msgspec.Raw:
    return msgspec.Raw(b"null")


class ChatBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: str
    messages: Annotated[list[MessageBody], Meta(min_length=1, max_length=MAX_MESSAGES)]
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None
    logit_bias: (
        Annotated[
            dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]],
            Meta(max_length=MAX_LOGIT_BIASES),
        ]
        | None
    ) = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    """What counts where ``max_tokens``, its older name, is given too."""
    stop: str | list[str] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    thinking: ThinkingBody | None = None
    chat_template_kwargs: TemplateArguments | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    """none: without thinking, where ``thinking`` says nothing. Kimi's models know no degrees: the rest is ignored."""
    tools: msgspec.Raw = msgspec.field(default_factory=_nothing)
    tool_choice: Literal["auto", "none", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    """False: one call per answer."""
    response_format: msgspec.Raw = msgspec.field(default_factory=_nothing)
    prompt_cache_key: Annotated[str, Meta(max_length=256)] | None = None
    modalities: list[Literal["text"]] | None = None
    # Of agents alone: their chats are durable runs.
    budget: BudgetBody | None = None
    stop_on_disconnect: bool | None = None
    """The run is stopped when the client goes away; else it goes on."""
    # Accepted and ignored: they do not change the answer.
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None


RAW_FIELDS: dict[str, Any] = {"tools": list[ToolBody] | None, "response_format": ResponseFormat | None}
"""What the fields hold that are kept as they were sent."""


def stops(body: ChatBody) -> tuple[str, ...]:
    if body.stop is None:
        return ()
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)


def max_tokens(body: ChatBody) -> int | None:
    return body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens


def thinks(body: ChatBody, default: bool = True) -> bool:
    """``default``: what the model's name says. Kimi's is to think."""
    if body.thinking is not None:
        return body.thinking.type == "enabled"
    arguments = body.chat_template_kwargs
    if arguments is not None and arguments.thinking is not None:
        return arguments.thinking
    return default if body.reasoning_effort is None else body.reasoning_effort != "none"


def keeps_thinking(body: ChatBody) -> bool:
    """Whether the reasoning of earlier turns stays in the prompt."""
    arguments = body.chat_template_kwargs
    kept = arguments is not None and arguments.preserve_thinking is True
    return kept or (body.thinking is not None and body.thinking.keep == "all")


def continues(body: ChatBody) -> bool:
    """Whether the answer continues the last message."""
    return body.messages[-1].partial is True


def declared_tools(body: ChatBody) -> list[ToolBody]:
    """Raises BadInput naming the field of a tool that is none."""
    return decode_body(bytes(body.tools), RAW_FIELDS["tools"], prefix="tools") or []


def tools(body: ChatBody) -> bytes:
    """The JSON array as it was sent; empty when there is none."""
    return bytes(body.tools) if declared_tools(body) else b""


def tool_choice(body: ChatBody) -> bytes:
    """JSON; empty for the default, and where there are no tools."""
    if body.tool_choice in (None, "auto") or not tools(body):
        return b""
    return msgspec.json.encode(body.tool_choice)


def format_of(body: ChatBody) -> ResponseFormat:
    """Raises BadInput naming the field of ``response_format`` that is wrong."""
    given = decode_body(bytes(body.response_format), RAW_FIELDS["response_format"], prefix="response_format")
    return given if given is not None else ResponseFormat(type="text")


def response_format(body: ChatBody) -> bytes:
    """The JSON object as it was sent; empty for plain text."""
    return b"" if format_of(body).type == "text" else bytes(body.response_format)
