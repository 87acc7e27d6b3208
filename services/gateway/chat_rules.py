"""What a chat body must keep to beyond the types of its fields: Moonshot's rules, as refusals that name the field.

Input: JSON bytes. Output: a ``ChatBody`` that can be answered, or BadInput. The rules of ``messages`` are in
``message_rules``, of schemas in ``schema_rules``. It must not know which models there are.
"""

from typing import Any, Literal

from services.gateway import chat_body, schema_rules
from services.gateway.chat_body import MAX_TOOLS, ChatBody, NamedChoice, ToolBody
from services.gateway.json_body import decode_body, refused
from services.gateway.message_rules import check_messages
from shared.errors import BadInput

SamplingMode = Literal["open", "kimi"]
"""kimi: sampling is fixed, as it is at Moonshot; open: within the usual ranges."""

MAX_STOPS = 5
MAX_STOP_BYTES = 32
MAX_TOOLS_BYTES = 1 << 20
MIN_KIMI_NAME = 3

FIXED_BY_KIMI: dict[str, tuple[Any, ...]] = {
    "temperature": (0, 0.6, 1.0),
    "top_p": (0.95,),
    "n": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "top_k": (0,),
    "min_p": (0,),
    "logit_bias": ({},),
}


def read(data: bytes, mode: SamplingMode = "open") -> ChatBody:
    """Raises BadInput whose ``param`` is the JSON path of the first field that is wrong."""
    body: ChatBody = decode_body(data, ChatBody)
    tools = _check_tools(body)
    _check_tool_choice(body, tools)
    _check_format(body)
    _check_stops(chat_body.stops(body))
    _check_thinking(body)
    _check_logprobs(body)
    check_messages(body.messages)
    _check_partial(body)
    if mode == "kimi":
        _check_kimi(body, tools)
    return body


def as_sent(error: BadInput, body_limit: str) -> BadInput:
    """A limit is called ``max_tokens`` on the bus; the sender hears the name that it used."""
    if error.param != "max_tokens" or body_limit == "max_tokens":
        return error
    return BadInput(error.code, error.message.replace("max_tokens", body_limit), param=body_limit, status=error.status)


def _check_stops(given: tuple[str, ...]) -> None:
    if len(given) > MAX_STOPS:
        raise refused("stop", f"at most {MAX_STOPS} strings are allowed")
    for text in given:
        if not 1 <= len(text.encode()) <= MAX_STOP_BYTES:
            raise refused("stop", f"each string must have 1 to {MAX_STOP_BYTES} bytes")


def _check_thinking(body: ChatBody) -> None:
    arguments = body.chat_template_kwargs
    if body.thinking is None:
        return
    if body.thinking.type == "disabled" and body.thinking.budget_tokens is not None:
        raise refused("thinking.budget_tokens", "thinking is disabled")
    if arguments is None or arguments.thinking is None:
        return
    if arguments.thinking != (body.thinking.type == "enabled"):
        raise refused("chat_template_kwargs.thinking", "contradicts thinking.type")


def _check_logprobs(body: ChatBody) -> None:
    if body.top_logprobs is not None and not body.logprobs:
        raise refused("top_logprobs", "needs logprobs to be true")


def _check_tools(body: ChatBody) -> list[ToolBody]:
    tools = chat_body.declared_tools(body)
    if len(tools) > MAX_TOOLS:
        raise refused("tools", f"at most {MAX_TOOLS} are allowed")
    if len(chat_body.tools(body)) > MAX_TOOLS_BYTES:
        raise refused("tools", f"may have {MAX_TOOLS_BYTES} bytes")
    names: set[str] = set()
    for index, tool in enumerate(tools):
        path = f"tools[{index}].function"
        if tool.function.name.startswith("$") != (tool.type == "builtin_function"):
            raise refused(f"{path}.name", "names of builtin functions, and no others, begin with '$'")
        if tool.function.name in names:
            raise refused(f"{path}.name", f"{tool.function.name!r} is declared twice")
        names.add(tool.function.name)
        if tool.function.parameters:
            schema_rules.check_object_schema(tool.function.parameters, f"{path}.parameters")
    return tools


def _check_tool_choice(body: ChatBody, tools: list[ToolBody]) -> None:
    choice = body.tool_choice
    if choice == "required" and not tools:
        raise refused("tool_choice", "'required' needs tools")
    if not isinstance(choice, NamedChoice):
        return
    names = [tool.function.name for tool in tools]
    if choice.function.name not in names:
        listed = ", ".join(names[:20]) or "none"
        raise refused("tool_choice.function.name", f"{choice.function.name[:100]!r} is not declared in tools: {listed}")


def _check_format(body: ChatBody) -> None:
    given = chat_body.format_of(body)
    if given.type != "json_schema":
        return
    if given.json_schema is None:
        raise refused("response_format.json_schema", "is required with type json_schema", "missing_field")
    schema_rules.check_schema(given.json_schema.schema, "response_format.json_schema.schema")


def _check_partial(body: ChatBody) -> None:
    if not chat_body.continues(body):
        return
    path = f"messages[{len(body.messages) - 1}].partial"
    if chat_body.format_of(body).type != "text":
        raise refused(path, "cannot be combined with response_format")
    if body.tool_choice not in (None, "auto", "none"):
        raise refused(path, "cannot be combined with a forced tool call")


def check_fixed(body: Any) -> None:
    """Moonshot's fixed values, of those fields that ``body`` has."""
    for name, allowed in FIXED_BY_KIMI.items():
        value = getattr(body, name, None)
        if value is not None and value not in allowed:
            listed = " or ".join(format(item, "g") if not isinstance(item, dict) else "{}" for item in allowed)
            raise refused(name, f"invalid {name}: only {listed} is allowed for this model")


def _check_kimi(body: ChatBody, tools: list[ToolBody]) -> None:
    """What Moonshot refuses and others do not."""
    check_fixed(body)
    if body.thinking is not None and body.thinking.budget_tokens is not None:
        raise refused("thinking.budget_tokens", "is not a field of Moonshot's API", "unknown_field")
    for index, tool in enumerate(tools):
        if len(tool.function.name) < MIN_KIMI_NAME:
            raise refused(f"tools[{index}].function.name", f"must have {MIN_KIMI_NAME} characters at least")
