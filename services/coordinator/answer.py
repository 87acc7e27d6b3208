"""One answer of a model as it arrives: each piece once, and the whole ``Message`` at the end. Pure.

Input: ``ChatDelta``s, possibly repeated by a new attempt, and ``ChatFinished``. Output: what is new, and the message.
It must not know where the pieces come from.
"""

from dataclasses import dataclass, field

import msgspec

from schemas.chat import ChatDelta, ChatFinished, Message, TextPart, ToolCall, ToolCallDelta
from shared.calls.progress import Progress
from shared.errors import Unavailable

MAX_CHARACTERS = 16 * 1024 * 1024
MAX_CALLS = 128


@dataclass
class _Call:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class Answer:
    def __init__(self) -> None:
        self.progress = Progress()
        self.finished: ChatFinished | None = None
        self._reasoning: list[str] = []
        self._content: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._characters = 0

    def take(self, item: ChatDelta | ChatFinished) -> ChatDelta | None:
        """The part of ``item`` that was not here before. Raises Unavailable for an answer without end."""
        if isinstance(item, ChatFinished):
            self.finished = item
            return None
        fresh = self.progress.add(item)
        if fresh is not None:
            self._keep(fresh)
        return fresh

    def _keep(self, delta: ChatDelta) -> None:
        self._reasoning.append(delta.reasoning)
        self._content.append(delta.content)
        self._characters += len(delta.reasoning) + len(delta.content)
        for piece in delta.tool_calls:
            self._keep_call(piece)
        if self._characters > MAX_CHARACTERS or len(self._calls) > MAX_CALLS:
            raise Unavailable("run.endless_answer", "the model's answer is larger than any answer may be", status=502)

    def _keep_call(self, piece: ToolCallDelta) -> None:
        call = self._calls.setdefault(piece.index, _Call())
        call.id += piece.id
        call.name += piece.name
        call.arguments.append(piece.arguments)
        self._characters += len(piece.arguments)

    def calls(self, first_index: int) -> tuple[ToolCall, ...]:
        """As the model made them, in order. One without an id gets Kimi's: its number in the whole conversation."""
        ordered = [self._calls[index] for index in sorted(self._calls)]
        return tuple(
            ToolCall(
                id=call.id or f"functions.{call.name}:{first_index + place}",
                name=call.name,
                arguments="".join(call.arguments).strip() or "{}",
            )
            for place, call in enumerate(ordered)
        )

    def message(self, calls: tuple[ToolCall, ...]) -> Message:
        """The assistant's turn. Arguments that are no JSON object are left out of it: endpoints parse the calls of a
        history, and would refuse every later request; the call's answer tells the model what was wrong."""
        content = "".join(self._content)
        return Message(
            role="assistant",
            content=(TextPart(text=content),) if content else (),
            reasoning="".join(self._reasoning) or None,
            tool_calls=tuple(call if _is_object(call.arguments) else _emptied(call) for call in calls),
        )


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(arguments), dict)
    except (msgspec.DecodeError, RecursionError):
        return False


def _emptied(call: ToolCall) -> ToolCall:
    return msgspec.structs.replace(call, arguments="{}")
