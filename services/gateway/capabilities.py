"""What a model must announce so that a chat can be answered as asked.

Pure. Input: a checked body and the capabilities of its model. Output: nothing, or BadInput naming the first field that
the model cannot honour.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from services.gateway import chat_body
from services.gateway.chat_body import ChatBody, Content, ImageContent, VideoContent
from services.gateway.json_body import unsupported

IMAGE, VIDEO, TOOLS = "image", "video", "tools"
GRAMMAR = "grammar"
"""Tokens are masked: choices and formats are kept."""
TOOL_CHOICE, RESPONSE_FORMAT, JSON_SCHEMA = "tool_choice", "response_format", "json_schema"
SAMPLING, LOGPROBS, PARTIAL, THINKING_BUDGET = "sampling", "logprobs", "partial", "thinking_budget"

NEUTRAL = {
    "top_k": (None, 0),
    "min_p": (None, 0),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "repetition_penalty": (None, 1),
    "logit_bias": (None, {}),
}
"""Fields of sampling beyond temperature, top_p and seed, with the values that change nothing."""

Need = tuple[str, tuple[str, ...]]
"""JSON path, and the capabilities of which one is enough."""

Placed = tuple[str, str | list[Content] | None]
"""JSON path of a message's content, and the content."""


def check_served(body: ChatBody, capabilities: frozenset[str]) -> None:
    """Raises BadInput. What a model that announces nothing can do with media and tools is found out by asking it."""
    _check(_needs(body), capabilities)


def check_agent(body: Any, contents: Iterable[Placed], capabilities: frozenset[str]) -> None:
    """Raises BadInput when a model cannot be an agent, sample as ``body`` says, or see what the messages show."""
    needs = [need for path, content in contents for need in _media_needs(path, content)]
    tools = () if body.tools == [] else (("model", (TOOLS,)),)
    _check([*tools, *_fields_needs(body), *needs], capabilities)


def _check(needs: Iterable[Need], capabilities: frozenset[str]) -> None:
    for path, sufficient in needs:
        optional = sufficient[0] in (IMAGE, VIDEO, TOOLS)
        if not capabilities.intersection(sufficient) and (capabilities or not optional):
            raise unsupported(path, f"this model does not have the capability {sufficient[0]!r}")


def chooses_tools(capabilities: frozenset[str]) -> bool:
    """Whether a model keeps ``tool_choice``."""
    return not capabilities.isdisjoint((TOOL_CHOICE, GRAMMAR))


def _needs(body: ChatBody) -> Iterator[Need]:
    if chat_body.tools(body):
        yield "tools", (TOOLS,)
    if body.tool_choice not in (None, "auto", "none"):
        yield "tool_choice", (TOOL_CHOICE, GRAMMAR)
    if chat_body.format_of(body).type != "text":
        yield "response_format.type", (RESPONSE_FORMAT, JSON_SCHEMA, GRAMMAR)
    yield from _sampling_needs(body)
    for index, message in enumerate(body.messages):
        if message.partial:
            yield f"messages[{index}].partial", (PARTIAL,)
    for index, message in enumerate(body.messages):
        yield from _media_needs(f"messages[{index}].content", message.content)


def _media_needs(path: str, content: str | list[Content] | None) -> Iterator[Need]:
    for place, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, ImageContent | VideoContent):
            yield f"{path}[{place}]", (IMAGE if isinstance(part, ImageContent) else VIDEO,)


def _fields_needs(body: Any) -> Iterator[Need]:
    for name, neutral in NEUTRAL.items():
        if getattr(body, name, None) not in neutral:
            yield name, (SAMPLING,)


def _sampling_needs(body: ChatBody) -> Iterator[Need]:
    yield from _fields_needs(body)
    if body.logprobs:
        yield "logprobs", (LOGPROBS,)
    if body.thinking is not None and body.thinking.budget_tokens is not None:
        yield "thinking.budget_tokens", (THINKING_BUDGET,)
