"""What a request demands of the form of its answer, as it crosses the wire in ``GenerateRequest.grammar`` (JSON).

Input: OpenAI's ``tools``, ``tool_choice`` and ``response_format``. Output: an ``AnswerGrammar``, or BadInput naming the
field. Knows nothing of tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from shared.errors import BadInput

Calls = Literal["none", "auto", "required"]


class ToolGrammar(msgspec.Struct, frozen=True, kw_only=True):
    """``parameters``: a JSON Schema of an object. ``strict``: nothing of it may be left unenforced."""

    name: str
    parameters: Any = msgspec.field(default_factory=dict)
    strict: bool = False


class ContentGrammar(msgspec.Struct, frozen=True, kw_only=True):
    """The content is one JSON text that satisfies ``schema``."""

    schema: Any
    strict: bool = False


class AnswerGrammar(msgspec.Struct, frozen=True, kw_only=True):
    """``thinking``: the answer begins inside the reasoning."""

    thinking: bool
    calls: Calls = "none"
    tools: tuple[ToolGrammar, ...] = ()
    max_calls: int | None = None
    first_index: int = 0
    """What the first call's number is: calls are counted over the whole conversation."""
    content: ContentGrammar | None = None
    """None: any text."""
    prefix: str = ""
    """Content that the prompt ends with and the answer continues."""

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


def decode_grammar(data: bytes) -> AnswerGrammar:
    """Raises BadInput when this is no grammar."""
    try:
        return msgspec.json.decode(data, type=AnswerGrammar)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadInput("generation.bad_grammar", f"the grammar is malformed: {error}", param="grammar") from error


def answer_grammar(
    *,
    thinking: bool,
    tools: Sequence[Mapping[str, Any]] = (),
    tool_choice: Any = None,
    response_format: Mapping[str, Any] | None = None,
    parallel_calls: bool = True,
    first_index: int = 0,
    prefix: str = "",
) -> AnswerGrammar | None:
    """None where any answer will do. Raises BadInput naming the field."""
    content = _content(response_format or {})
    calls, chosen = _choice(tool_choice, tools)
    if content is None and calls == "none" and not tools:
        return None
    return AnswerGrammar(
        thinking=thinking,
        calls=calls,
        tools=tuple(_tool(tool["function"]) for tool in chosen) if calls != "none" else (),
        max_calls=None if parallel_calls and len(chosen) == len(tools) and not isinstance(tool_choice, Mapping) else 1,
        first_index=first_index,
        content=content,
        prefix=prefix,
    )


def _choice(tool_choice: Any, tools: Sequence[Mapping[str, Any]]) -> tuple[Calls, Sequence[Mapping[str, Any]]]:
    if tool_choice in (None, "auto"):
        return ("auto" if tools else "none"), tools
    if tool_choice == "none":
        return "none", tools
    if tool_choice == "required":
        if not tools:
            raise BadInput("chat.bad_request", "tool_choice 'required' needs tools", param="tool_choice")
        return "required", tools
    name = _chosen_name(tool_choice)
    chosen = [tool for tool in tools if tool["function"]["name"] == name]
    if not chosen:
        raise BadInput("chat.bad_request", f"tool_choice names {name!r}, which is not in tools", param="tool_choice")
    return "required", chosen


def _chosen_name(tool_choice: Any) -> str:
    if isinstance(tool_choice, Mapping):
        function = tool_choice.get("function")
        name = function.get("name") if isinstance(function, Mapping) else None
        if isinstance(name, str):
            return name
    raise BadInput(
        "chat.bad_request", "tool_choice must be 'auto', 'none', 'required' or name a function", param="tool_choice"
    )


def _tool(function: Mapping[str, Any]) -> ToolGrammar:
    parameters = function.get("parameters")
    return ToolGrammar(
        name=function["name"],
        parameters={} if parameters is None else parameters,
        strict=function.get("strict") is True,
    )


def _content(response_format: Mapping[str, Any]) -> ContentGrammar | None:
    kind = response_format.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return ContentGrammar(schema={"type": "object"})
    wanted = response_format.get("json_schema")
    if kind != "json_schema" or not isinstance(wanted, Mapping) or "schema" not in wanted:
        raise BadInput(
            "chat.bad_request",
            "response_format must be of type text, json_object, or json_schema with json_schema.schema",
            param="response_format",
        )
    return ContentGrammar(schema=wanted["schema"], strict=wanted.get("strict") is True)
