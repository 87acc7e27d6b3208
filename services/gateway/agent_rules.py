"""A chat with an agent as a run: what of a chat's body a run can keep to, and what is refused.

Pure. Input: a checked ``ChatBody``. Output: a ``RunBody``, or BadInput naming the field. It must not know how a run is
told.
"""

from services.gateway import chat_body, run_rules
from services.gateway.chat_body import ChatBody, ToolBody
from services.gateway.json_body import refused, unsupported
from services.gateway.run_body import RunBody, RunThinking

BUILTIN_SEARCH = "$web_search"
"""Kimi's own name of a tool; other builtin functions are tools without the sign."""


def check_plain(body: ChatBody) -> None:
    """Raises BadInput: what only agents have."""
    for name in ("budget", "stop_on_disconnect"):
        if getattr(body, name) is not None:
            raise unsupported(name, "is for agents: a model whose name ends in '-agent'")


def as_run(body: ChatBody) -> RunBody:
    """Raises BadInput."""
    _check_possible(body)
    run_rules.check_goal(body.messages)
    thinking = None
    if body.thinking is not None or body.chat_template_kwargs is not None or body.reasoning_effort is not None:
        thinking = RunThinking(type="enabled" if chat_body.thinks(body) else "disabled")
    return RunBody(
        model=body.model,
        messages=body.messages,
        tools=_tools(body),
        budget=body.budget,
        thinking=thinking,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repetition_penalty=body.repetition_penalty,
        seed=body.seed,
        max_tokens=chat_body.max_tokens(body),
    )


def _check_possible(body: ChatBody) -> None:
    impossible = {
        "n": body.n not in (None, 1),
        "stop": chat_body.stops(body) != (),
        "logprobs": bool(body.logprobs),
        "logit_bias": bool(body.logit_bias),
        "response_format": chat_body.format_of(body).type != "text",
        "parallel_tool_calls": body.parallel_tool_calls is False,
        "thinking.budget_tokens": body.thinking is not None and body.thinking.budget_tokens is not None,
        "tool_choice": body.tool_choice not in (None, "auto", "none"),
    }
    for path, given in impossible.items():
        if given:
            raise unsupported(path, "an agent's chat is a run of many model calls, which cannot keep to this")


def _tools(body: ChatBody) -> list[str] | None:
    """None: all that there are. Functions of the client are refused: a run goes on without its client."""
    if body.tool_choice == "none":
        return []
    declared = chat_body.declared_tools(body)
    for index, tool in enumerate(declared):
        if tool.type == "function":
            reason = (
                "an agent runs its tools itself, also while its client is away; leave tools out for all of them, or "
                "name some as builtin functions ($python, $web_search)"
            )
            raise refused(f"tools[{index}].type", reason, "unsupported_value")
    return [_name(tool) for tool in declared] or None


def _name(tool: ToolBody) -> str:
    name = tool.function.name
    return name if name == BUILTIN_SEARCH else name.removeprefix("$")
