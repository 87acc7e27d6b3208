"""Checks of refusals: each bad field is answered with a 4xx in OpenAI's shape that names what is wrong."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from services.cli.verify.exchange import Wish
from services.cli.verify.judgement import NotOffered, require, shaped_error, shown
from services.cli.verify.probe import CHAT, Probe
from services.cli.verify.tools import SAMPLE, named, tool

STATUSES = tuple(range(400, 500))


@dataclass(frozen=True)
class Bad:
    """``fields`` replace those of a good body; a value of None takes the field away. One of ``words`` must be named."""

    name: str
    promise: str
    fields: dict[str, Any]
    words: tuple[str, ...]


HELLO = {"role": "user", "content": "Hello"}
ROWS = (
    Bad("temperature", "a temperature of 9.5", {"temperature": 9.5}, ("temperature",)),
    Bad("top_p", "a top_p of 7", {"top_p": 7}, ("top_p",)),
    Bad("max_tokens", "a negative max_tokens", {"max_tokens": -1}, ("max_tokens", "max_completion_tokens")),
    Bad("role", "an unknown role", {"messages": [{**HELLO, "role": "wizard"}]}, ("role", "wizard")),
    Bad("stops", "64 stop strings", {"stop": [f"stop-{number}" for number in range(64)]}, ("stop",)),
    Bad("seed", "a seed that is a word", {"seed": "seven"}, ("seed",)),
    Bad("stream", "a stream that is neither true nor false", {"stream": "perhaps"}, ("stream",)),
    Bad("no_messages", "a body without messages", {"messages": None}, ("messages",)),
    Bad("empty_messages", "an empty list of messages", {"messages": []}, ("messages",)),
    Bad("messages_type", "messages that are a text", {"messages": "Hello"}, ("messages",)),
    Bad("no_model", "a body without model", {"model": None}, ("model",)),
    Bad(
        "content_part",
        "a content part of unknown type",
        {"messages": [{"role": "user", "content": [{"type": "hologram", "hologram": "x"}]}]},
        ("hologram", "type", "content"),
    ),
    Bad("tools", "a tool without a function", {"tools": [{"type": "function"}]}, ("tool", "function")),
    Bad(
        "tool_choice",
        "the choice of a tool that is not offered",
        {"tools": [tool("get_weather", SAMPLE.schema)], "tool_choice": named("get_rich")},
        ("tool", "get_rich"),
    ),
    Bad("response_format", "an unknown response format", {"response_format": {"type": "poem"}}, ("response_format",)),
)


def refusal(bad: Bad) -> Callable[[Probe], Awaitable[None]]:
    async def check(probe: Probe) -> None:
        body = {**probe.body("Hello", limit=8), **bad.fields}
        if bad.name == "max_tokens":
            body |= {probe.dialect.limit: -1}
        await _refused(probe, {name: value for name, value in body.items() if value is not None}, bad.words)

    return check


async def malformed_json(probe: Probe) -> None:
    words = ("json", "parse", "decode", "expecting", "malformed")
    await _refused(probe, b'{"model": "any", "messages": [{"role": "user", "content": "Hello"}', words)


async def streamed(probe: Probe) -> None:
    """A refusal has its status also where a stream was asked for; what is refused is asked for unstreamed first."""
    body = probe.body("Hello", limit=8) | {"temperature": 9.5}
    if (await probe.exchange(Wish("POST", CHAT, body))).accepted:
        raise NotOffered("the same body is not refused without a stream")
    shaped_error(await probe.exchange(Wish("POST", CHAT, body | {"stream": True}, streams=True)), STATUSES)


async def _refused(probe: Probe, body: Any, words: tuple[str, ...]) -> None:
    exchange = await probe.exchange(Wish("POST", CHAT, body))
    said = shaped_error(exchange, STATUSES)
    told = f"the refusal does not name {words[0]!r}: {shown(said)}"
    require(any(word in said for word in words), told, exchange)
