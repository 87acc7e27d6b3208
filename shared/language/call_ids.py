"""Tool-call ids as the model writes them: ``functions.NAME:IDX``, counted over the whole conversation from 0.

Input: messages. Output: the same messages, in which native ids stay, and foreign ones (``call_abc``) are renamed with
the results that refer to them. An id used again means its latest call. Pure.
"""

import re
from collections.abc import Sequence

import msgspec

from schemas.chat import Message, ToolCall


def with_native_ids(messages: Sequence[Message]) -> list[Message]:
    names = _CallNames(messages)
    return [_renamed(message, names) for message in messages]


def _renamed(message: Message, names: "_CallNames") -> Message:
    calls = tuple(_with_id(call, names.of_call(call)) for call in message.tool_calls)
    result_of = None if message.tool_call_id is None else names.of_result(message.tool_call_id)
    if calls == message.tool_calls and result_of == message.tool_call_id:
        return message
    return msgspec.structs.replace(message, tool_calls=calls, tool_call_id=result_of)


def _with_id(call: ToolCall, id: str) -> ToolCall:
    return call if call.id == id else msgspec.structs.replace(call, id=id)


class _CallNames:
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
