"""The K2.6 chat template (reference page section 5): messages and tools to turns of segments.

Three modes: thinking, instant (``thinking=False``) and preserved thinking. Knows nothing of token ids, manifests or
the wire.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from schemas.chat import MediaPart, Message, TextPart, ToolCall
from shared.language import specials
from shared.language.segments import Marker, MediaSlot, Segment, Text
from shared.language.tool_declarations import declare

Turn = list[Segment]

_IM_END = Marker(specials.IM_END)
_EMPTY_THINKING = (Marker(specials.THINK), Marker(specials.END_THINK))
_ROLE_MARKERS = {"user": Marker(specials.IM_USER), "assistant": Marker(specials.IM_ASSISTANT)}


def render(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]] = (),
    *,
    thinking: bool = True,
    preserve_thinking: bool = False,
) -> list[Turn]:
    """One turn per message, before them the tools if there are any, and last the opening of the answer."""
    turns: list[Turn] = []
    if tools:
        turns.append([*_header("system", "tool_declare"), Text(declare(tools)), _IM_END])
    last_of_history = -1 if preserve_thinking else _last_answer(messages)
    names = _CallNames(messages)
    media = iter(range(sum(isinstance(part, MediaPart) for message in messages for part in message.content)))
    for position, message in enumerate(messages):
        keep = thinking and position > last_of_history
        turns.append([*_header(message.role, message.name), *_body(message, keep, names, media), _IM_END])
    opening = (Marker(specials.THINK),) if thinking else _EMPTY_THINKING
    turns.append([*_header("assistant", None), *opening])
    return turns


def _header(role: str, name: str | None) -> Turn:
    return [_ROLE_MARKERS.get(role, Marker(specials.IM_SYSTEM)), Text(name or role), Marker(specials.IM_MIDDLE)]


def _last_answer(messages: Sequence[Message]) -> int:
    """Index of the last assistant message without tool calls: up to there reasoning is history and dropped."""
    answers = (i for i, message in enumerate(messages) if message.role == "assistant" and not message.tool_calls)
    return max(answers, default=-1)


def _body(message: Message, keep_reasoning: bool, names: "_CallNames", media: Iterator[int]) -> Iterator[Segment]:
    if message.role == "assistant":
        reasoning = message.reasoning if keep_reasoning else ""
        yield from (Marker(specials.THINK), Text(reasoning or ""), Marker(specials.END_THINK))
    elif message.role == "tool":
        yield Text(f"## Return of {names.of_result(message.tool_call_id or '')}\n")
    for part in message.content:
        if isinstance(part, TextPart):
            yield Text(part.text)
        else:
            yield from (MediaSlot(part.kind, next(media)), Text("\n"))
    if message.role == "assistant" and message.tool_calls:
        yield from _tool_calls(message.tool_calls, names)


def _tool_calls(calls: Sequence[ToolCall], names: "_CallNames") -> Iterator[Segment]:
    yield Marker(specials.TOOL_SECTION_BEGIN)
    for call in calls:
        yield from (Marker(specials.TOOL_CALL_BEGIN), Text(names.of_call(call)))
        yield from (Marker(specials.TOOL_ARGUMENT_BEGIN), Text(call.arguments), Marker(specials.TOOL_CALL_END))
    yield Marker(specials.TOOL_SECTION_END)


class _CallNames:
    """Tool-call ids as the model writes them, ``functions.NAME:IDX``, counted over the whole conversation from 0.

    Native ids stay; foreign ones (``call_abc``) are renamed, and the results that refer to them with them. An id used
    again means its latest call.
    """

    def __init__(self, messages: Sequence[Message]) -> None:
        calls = [call for message in messages for call in message.tool_calls]
        self._taken = {call.id for call in calls if _is_native(call)}
        self._renamed: dict[str, str] = {}
        self._count = 0

    def of_call(self, call: ToolCall) -> str:
        position = self._count
        self._count += 1
        if _is_native(call):
            self._renamed[call.id] = call.id
            return call.id
        while (name := f"functions.{call.name}:{position}") in self._taken:
            position += 1
        self._taken.add(name)
        self._renamed[call.id] = name
        return name

    def of_result(self, call_id: str) -> str:
        return self._renamed.get(call_id, call_id)


def _is_native(call: ToolCall) -> bool:
    return re.fullmatch(rf"functions\.{re.escape(call.name)}:\d+", call.id) is not None
