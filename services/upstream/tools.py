"""Tool calls: gathered from pieces, checked against the tools' schemas, streamed on.

Input: the request's tools, and tool-call pieces in whatever shape an endpoint sends them. Output: whole calls, what is
wrong with them, and deltas. Pure.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from schemas.chat import ToolCall, ToolCallDelta
from services.upstream.translate import ToolPiece
from shared.language.tool_arguments import Check, arguments_check

MAX_CALLS = 128
DELTA_CHARACTERS = 256
REASON_CHARACTERS = 300


class ToolTable:
    """The functions a request offers, each with the check of its arguments."""

    def __init__(self, tools: Sequence[Any]) -> None:
        """``tools``: OpenAI tool objects. Raises BadInput naming the tool whose schema is no schema."""
        self._checks: dict[str, Check] = {}
        for position, tool in enumerate(tools):
            function = tool.get("function") if isinstance(tool, dict) else None
            if isinstance(function, dict) and isinstance(function.get("name"), str):
                where = f"tools[{position}].function.parameters"
                self._checks[function["name"]] = arguments_check(function.get("parameters"), where)

    def __bool__(self) -> bool:
        return bool(self._checks)

    def problem(self, calls: Sequence[ToolCall]) -> str | None:
        """Why the calls cannot be passed on, in one sentence; None when they can."""
        for call in calls:
            check = self._checks.get(call.name)
            if check is None:
                return f"there is no tool called {call.name[:64]!r}"
            reason = check(call.arguments)
            if reason is not None:
                return f"the arguments of {call.name!r} do not fit its schema: {reason[:REASON_CHARACTERS]}"
        return None


class CallGatherer:
    """Calls from pieces: split at any place, in one lump, with or without index and id, empty ones between."""

    def __init__(self) -> None:
        self._parts: dict[int, _Parts] = {}
        self._last = -1

    def take(self, pieces: Sequence[ToolPiece]) -> None:
        for piece in pieces:
            if not (piece.id or piece.name or piece.arguments):
                continue
            parts = self._parts.setdefault(self._place(piece), _Parts())
            parts.id = parts.id or piece.id
            parts.name = parts.name or piece.name
            parts.arguments.append(piece.arguments)

    def calls(self, id_prefix: str) -> tuple[ToolCall, ...]:
        """In the order of their index. A call without an id gets one; no arguments at all are an empty object."""
        ordered = [self._parts[place] for place in sorted(self._parts)]
        return tuple(
            ToolCall(
                id=parts.id or f"{id_prefix}_{position}",
                name=parts.name,
                arguments="".join(parts.arguments).strip() or "{}",
            )
            for position, parts in enumerate(ordered)
        )

    def _place(self, piece: ToolPiece) -> int:
        """Without an index, a new id or a further name begins a new call, and anything else belongs to the last."""
        if piece.index is not None:
            self._last = piece.index
        elif self._begins(piece):
            self._last += 1
        if len(self._parts) >= MAX_CALLS and self._last not in self._parts:
            self._last = max(self._parts)
        return self._last

    def _begins(self, piece: ToolPiece) -> bool:
        last = self._parts.get(self._last)
        if last is None:
            return True
        return (piece.id != "" and piece.id != last.id) or (piece.id == "" and piece.name != "")


class _Parts:
    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


def deltas(calls: Sequence[ToolCall]) -> Iterator[tuple[ToolCallDelta, ...]]:
    """The calls as a stream: a name first, then its arguments in pieces. The same calls are cut the same way."""
    for index, call in enumerate(calls):
        yield (ToolCallDelta(index=index, id=call.id, name=call.name),)
        for start in range(0, len(call.arguments), DELTA_CHARACTERS):
            yield (ToolCallDelta(index=index, arguments=call.arguments[start : start + DELTA_CHARACTERS]),)


def repair_messages(content: str, calls: Sequence[ToolCall], problem: str) -> list[dict[str, Any]]:
    """What is appended to ask for the calls once more.

    As plain text: endpoints parse the arguments of earlier calls, and refuse a conversation that holds broken ones.
    """
    shown = "\n".join(f"{call.name}({call.arguments[:4000]})" for call in calls) or "(the call was lost)"
    said = f"{content}\n{shown}" if content else shown
    ask = f"These tool calls cannot be run: {problem}. Make them again, with arguments that fit the tools' schemas."
    return [{"role": "assistant", "content": said}, {"role": "user", "content": ask}]
