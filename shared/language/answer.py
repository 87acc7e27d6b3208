"""Token ids of an answer to reasoning, content and tool calls, incrementally (reference page section 5).

What has been returned after N ids depends on those N ids only, not on how they were handed over, so the state is
rebuilt by replaying them. Borders are special ids, never text: no marker reaches a client, and text that spells a
marker stays text. Knows nothing of the wire beyond ``ChatDelta``, nor of prompts.
"""

from collections.abc import Iterable, Sequence
from enum import Enum, auto

from schemas.chat import ChatDelta, ToolCallDelta
from shared.language import specials
from shared.language.detokenise import Detokeniser
from shared.language.stops import StopMatcher
from shared.language.vocabulary import Vocabulary


class _Part(Enum):
    REASONING = auto()
    CONTENT = auto()
    SECTION = auto()
    """Inside the tool section, between calls."""
    CALL_ID = auto()
    ARGUMENTS = auto()


_OUTSIDE = frozenset((_Part.REASONING, _Part.CONTENT))
_IN_CALL = frozenset((_Part.CALL_ID, _Part.ARGUMENTS))
_IN_TOOLS = _IN_CALL | {_Part.SECTION}
_EVERYWHERE = frozenset(_Part)

_BORDERS: dict[str, tuple[frozenset[_Part], _Part]] = {
    specials.END_THINK: (frozenset((_Part.REASONING,)), _Part.CONTENT),
    specials.TOOL_SECTION_BEGIN: (_OUTSIDE, _Part.SECTION),
    specials.TOOL_CALL_BEGIN: (_EVERYWHERE, _Part.CALL_ID),
    specials.TOOL_ARGUMENT_BEGIN: (frozenset((_Part.CALL_ID,)), _Part.ARGUMENTS),
    specials.TOOL_CALL_END: (_IN_CALL, _Part.SECTION),
    specials.TOOL_SECTION_END: (_IN_TOOLS, _Part.CONTENT),
}
"""Marker → (where it counts, what it opens). Anywhere else a marker means nothing and vanishes."""


class AnswerParser:
    """One answer. Stop strings apply to content only."""

    def __init__(self, vocabulary: Vocabulary, *, thinking: bool, stop: Sequence[str] = ()) -> None:
        self._vocabulary = vocabulary
        self._part = _Part.REASONING if thinking else _Part.CONTENT
        self._characters = Detokeniser()
        self._stops = StopMatcher(stop)
        self._call_id = ""
        self._call_count = 0
        self._spaces: str | None = None
        """Whitespace of arguments that is passed on only if more follows; None before their first character."""
        self._out = _Pieces()
        self.consumed = 0
        """Ids that belong to the answer so far; less than were pushed after a stop string."""
        self.reasoning_tokens = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the answer."""
        return self._stops.hit

    @property
    def has_tool_calls(self) -> bool:
        return self._call_count > 0

    def push(self, ids: Iterable[int]) -> ChatDelta:
        """What these ids add, without ``resume``."""
        for token_id in ids:
            if self.stopped:
                break
            self.consumed += 1
            if token_id < self._vocabulary.rank_count:
                self.reasoning_tokens += self._part is _Part.REASONING
                self._text(self._characters.push(self._vocabulary.token_bytes(token_id)))
            else:
                self._marker(self._vocabulary.special_names.get(token_id, ""))
        return self._out.take()

    def finish(self) -> ChatDelta:
        """What was held back, when no more ids follow."""
        self._leave()
        return self._out.take()

    def _marker(self, name: str) -> None:
        where, opened = _BORDERS.get(name, (frozenset(), self._part))
        if self._part not in where:
            return
        self._leave()
        if not self.stopped:
            self._part = opened
            self._enter()

    def _leave(self) -> None:
        self._text(self._characters.finish())
        if self._part is _Part.CONTENT:
            self._out.content.append(self._stops.finish())

    def _enter(self) -> None:
        if self._part is _Part.CALL_ID:
            self._call_id = ""
        elif self._part is _Part.ARGUMENTS:
            self._open_call(self._call_id.strip())

    def _open_call(self, call_id: str) -> None:
        name = call_id.split(":")[0].split(".")[-1]
        self._out.calls.append(ToolCallDelta(index=self._call_count, id=call_id, name=name))
        self._call_count += 1
        self._spaces = None

    def _text(self, text: str) -> None:
        if self._part is _Part.REASONING:
            self._out.reasoning.append(text)
        elif self._part is _Part.CONTENT:
            self._out.content.append(self._stops.push(text))
        elif self._part is _Part.CALL_ID:
            self._call_id += text
        elif self._part is _Part.ARGUMENTS:
            self._arguments(text)

    def _arguments(self, text: str) -> None:
        """Whitespace around the arguments is not part of them."""
        text = text.lstrip() if self._spaces is None else self._spaces + text
        if not text:
            return
        stripped = text.rstrip()
        self._spaces = text[len(stripped) :]
        if stripped:
            self._out.calls.append(ToolCallDelta(index=self._call_count - 1, arguments=stripped))


class _Pieces:
    """What was parsed since the last ``take``."""

    def __init__(self) -> None:
        self.reasoning: list[str] = []
        self.content: list[str] = []
        self.calls: list[ToolCallDelta] = []

    def take(self) -> ChatDelta:
        delta = ChatDelta(
            reasoning="".join(self.reasoning), content="".join(self.content), tool_calls=tuple(_merged(self.calls))
        )
        self.reasoning, self.content, self.calls = [], [], []
        return delta


def _merged(calls: Iterable[ToolCallDelta]) -> list[ToolCallDelta]:
    """One delta per call: the pieces of its arguments joined."""
    heads: dict[int, ToolCallDelta] = {}
    arguments: dict[int, list[str]] = {}
    for call in calls:
        heads.setdefault(call.index, call)
        arguments.setdefault(call.index, []).append(call.arguments)
    return [
        ToolCallDelta(index=index, id=head.id, name=head.name, arguments="".join(arguments[index]))
        for index, head in heads.items()
    ]
