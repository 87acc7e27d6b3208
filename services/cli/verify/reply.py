"""An answer as a client of the API reads it, whole or gathered from a stream.

Input: an exchange. Output: a ``Reply``. Reads as leniently as it can, so that one broken field is found by the one
check that promises it. Pure.
"""

from dataclasses import dataclass, field
from typing import Any

from services.cli.verify.exchange import Event, Exchange, parsed
from services.cli.verify.judgement import Defect, accepted, refusal_message, shown

DONE = b"[DONE]"


@dataclass
class Call:
    id: Any = ""
    type: Any = ""
    name: str = ""
    arguments: Any = ""
    """As sent: text, or whatever came instead of it."""

    def value(self) -> Any:
        """The arguments as a value; None when they are not JSON."""
        return parsed(self.arguments.encode()) if isinstance(self.arguments, str) else self.arguments


@dataclass
class Reply:
    exchange: Exchange
    content: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    finish_reasons: list[str] = field(default_factory=list)
    usage: dict[str, Any] | None = None
    word_seconds: list[float] = field(default_factory=list)
    """When each piece of text came; streams only."""

    @property
    def finish_reason(self) -> str:
        return self.finish_reasons[-1] if self.finish_reasons else ""

    @property
    def words(self) -> tuple[str, str, list[tuple[str, Any]]]:
        """What was said, without ids and numbers: equal for equal answers."""
        return self.reasoning, self.content, [(call.name, call.arguments) for call in self.calls]

    def count(self, name: str) -> int | None:
        """A usage count, or None when there is none."""
        value = (self.usage or {}).get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def whole(exchange: Exchange) -> Reply:
    """Of an unstreamed answer. Raises Refused or Defect."""
    body = accepted(exchange).json()
    choice = _choice(body)
    message = choice.get("message") if choice is not None else None
    if choice is None or not isinstance(message, dict):
        raise Defect(f"the answer has no choices[0].message: {shown(exchange.data)}", exchange)
    reply = Reply(exchange, usage=_dict(body.get("usage")))
    reply.calls = [_call(item) for item in _list(message.get("tool_calls"))]
    _take(reply, message, choice)
    return reply


def gathered(exchange: Exchange) -> Reply:
    """Of a stream; events that cannot be read are passed over. Raises Refused or Defect."""
    events = accepted(exchange).events
    if not events:
        raise Defect(f"no server-sent event came: {shown(exchange.data) or 'the body is empty'}", exchange)
    reply = Reply(exchange)
    calls: dict[int, Call] = {}
    for event in events:
        _event(reply, calls, event)
    reply.calls = [calls[index] for index in sorted(calls)]
    return reply


def _event(reply: Reply, calls: dict[int, Call], event: Event) -> None:
    chunk = parsed(event.data)
    if not isinstance(chunk, dict):
        return
    if "error" in chunk:
        raise Defect(f"the stream ends with an error: {refusal_message(chunk)}", reply.exchange)
    reply.usage = _dict(chunk.get("usage")) or reply.usage
    choice = _choice(chunk)
    if choice is None:
        return
    delta = _dict(choice.get("delta")) or {}
    before = len(reply.content) + len(reply.reasoning)
    _take(reply, delta, choice)
    if len(reply.content) + len(reply.reasoning) > before:
        reply.word_seconds.append(event.seconds)
    for item in _list(delta.get("tool_calls")):
        _call_piece(calls, item)


def _take(reply: Reply, said: dict[str, Any], choice: dict[str, Any]) -> None:
    reply.content += _text(said.get("content"))
    reply.reasoning += _text(said.get("reasoning_content")) or _text(said.get("reasoning"))
    if choice.get("finish_reason"):
        reply.finish_reasons.append(str(choice["finish_reason"]))


def _call(item: Any) -> Call:
    item = _dict(item) or {}
    function = _dict(item.get("function")) or {}
    return Call(item.get("id"), item.get("type"), _text(function.get("name")), function.get("arguments"))


def _call_piece(calls: dict[int, Call], item: Any) -> None:
    """Pieces without index belong to the last call."""
    piece = _call(item)
    index = item.get("index") if isinstance(item, dict) else None
    call = calls.setdefault(index if isinstance(index, int) else max(calls, default=0), Call())
    call.id, call.type, call.name = call.id or piece.id, call.type or piece.type, call.name or piece.name
    if isinstance(piece.arguments, str) and isinstance(call.arguments, str):
        call.arguments += piece.arguments
    elif piece.arguments is not None:
        call.arguments = piece.arguments


def _choice(body: Any) -> dict[str, Any] | None:
    choices = _list(body.get("choices")) if isinstance(body, dict) else []
    return choices[0] if choices and isinstance(choices[0], dict) else None


def _dict(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
