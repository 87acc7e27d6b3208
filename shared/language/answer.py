"""Token ids of an answer to reasoning, content and tool calls, incrementally (reference page section 5).

What has been returned after N ids depends on those N ids only, not on how they were handed over, so the state is
rebuilt by replaying them. Borders are special ids, never text: no marker reaches a client as structure, and text that
spells a marker stays text. Every call ends: as it should, or marked incomplete. Knows nothing of the wire beyond
``ChatDelta``, nor of prompts.
"""

from collections.abc import Iterable, Sequence
from enum import Enum, auto

from schemas.chat import ChatDelta, ToolCallDelta
from shared.language import specials
from shared.language.arguments import Arguments
from shared.language.detokenise import Detokeniser
from shared.language.stops import StopMatcher
from shared.language.vocabulary import Vocabulary

MAX_CALL_ID_CHARS = 256
_NO_ARGUMENTS = "{}"
"""What a call that was ended with nothing between its markers has: clients parse arguments as JSON."""


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

_TEXT_IN_STRING = frozenset(
    (specials.THINK, specials.END_THINK, specials.TOOL_SECTION_BEGIN, specials.TOOL_ARGUMENT_BEGIN)
)
"""A model that writes about its own markers writes them as their tokens: inside a JSON string these are text."""
_DOUBTFUL_IN_STRING = frozenset((specials.TOOL_CALL_END, specials.TOOL_SECTION_END))
"""Text in a string too, unless the tool section goes on or the answer ends behind it: then the string was cut off."""
_SECTION_GOES_ON = frozenset((specials.TOOL_SECTION_BEGIN, specials.TOOL_SECTION_END, specials.TOOL_CALL_BEGIN))


class AnswerParser:
    """One answer. ``thinking``: it begins inside the reasoning. Stop strings apply to content only."""

    def __init__(self, vocabulary: Vocabulary, *, thinking: bool, stop: Sequence[str] = ()) -> None:
        self._vocabulary = vocabulary
        self._part = _Part.REASONING if thinking else _Part.CONTENT
        self._characters = Detokeniser()
        self._stops = StopMatcher(stop)
        self._call_id = ""
        self._call_count = 0
        self._arguments = Arguments()
        self._held = ""
        """A doubtful marker, until the next id shows what it was."""
        self._out = _Pieces()
        self.consumed = 0
        """Ids that belong to the answer so far; less than were pushed after a stop string."""
        self.reasoning_tokens = 0
        self.content_places: list[int] = []
        """Of the ids pushed last: the places of those that are content."""
        self.has_incomplete_call = False

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended the answer."""
        return self._stops.hit

    @property
    def has_tool_calls(self) -> bool:
        return self._call_count > 0

    def push(self, ids: Iterable[int]) -> ChatDelta:
        """What these ids add, without ``resume`` and ``logprobs``."""
        self.content_places = []
        for place, token_id in enumerate(ids):
            if self.stopped:
                break
            self.consumed += 1
            if token_id >= self._vocabulary.rank_count:
                self._marker(self._vocabulary.special_names.get(token_id, ""))
                continue
            self._release(is_text=True)
            self.reasoning_tokens += self._part is _Part.REASONING
            self._text(self._characters.push(self._vocabulary.token_bytes(token_id)))
            if self._part is _Part.CONTENT:
                self.content_places.append(place)
        return self._out.take()

    def finish(self) -> ChatDelta:
        """What was held back, when no more ids follow. A call that is still open ends here."""
        self._release(is_text=False)
        self._leave()
        if self._part in _IN_TOOLS:
            self._part = _Part.SECTION
        return self._out.take()

    def _marker(self, name: str) -> None:
        self._release(is_text=name not in _SECTION_GOES_ON)
        in_string = self._part is _Part.ARGUMENTS and self._arguments.in_string
        if in_string and name in _TEXT_IN_STRING:
            self._text(self._characters.finish() + name)
        elif in_string and name in _DOUBTFUL_IN_STRING:
            self._text(self._characters.finish())
            self._held = name
        else:
            self._border(name)

    def _release(self, *, is_text: bool) -> None:
        """Decide what the held marker was."""
        held, self._held = self._held, ""
        if held and is_text:
            self._text(held)
        elif held:
            self._border(held)

    def _border(self, name: str) -> None:
        where, opened = _BORDERS.get(name, (frozenset(), self._part))
        if self._part not in where:
            return
        if name == specials.TOOL_CALL_END and self._part is _Part.ARGUMENTS and not self._arguments.begun:
            self._text(_NO_ARGUMENTS)
        self._leave(opens_arguments=opened is _Part.ARGUMENTS)
        if not self.stopped:
            self._part = opened
            self._enter()

    def _leave(self, *, opens_arguments: bool = False) -> None:
        self._text(self._characters.finish())
        if self._part is _Part.CONTENT:
            self._out.content.append(self._stops.finish())
        elif self._part is _Part.CALL_ID and not opens_arguments:
            self._open_call()
            self._mark_incomplete()
        elif self._part is _Part.ARGUMENTS:
            self._close_arguments()

    def _enter(self) -> None:
        if self._part is _Part.CALL_ID:
            self._call_id = ""
        elif self._part is _Part.ARGUMENTS:
            self._open_call()

    def _open_call(self) -> None:
        call_id = self._call_id.strip() or f"call_{self._call_count}"
        name = self._call_id.strip().split(":")[0].split(".")[-1]
        self._out.calls.append(ToolCallDelta(index=self._call_count, id=call_id, name=name))
        self._call_count += 1
        self._arguments = Arguments()

    def _close_arguments(self) -> None:
        if not self._arguments.complete:
            self._mark_incomplete()

    def _mark_incomplete(self) -> None:
        self.has_incomplete_call = True
        self._out.calls.append(ToolCallDelta(index=self._call_count - 1, incomplete=True))

    def _text(self, text: str) -> None:
        if self._part is _Part.SECTION:
            text = text.lstrip()
            self._part = _Part.CONTENT if text else self._part
        if self._part is _Part.REASONING:
            self._out.reasoning.append(text)
        elif self._part is _Part.CONTENT:
            self._out.content.append(self._stops.push(text))
        elif self._part is _Part.CALL_ID:
            self._call_id = (self._call_id + text)[:MAX_CALL_ID_CHARS]
        elif self._part is _Part.ARGUMENTS and (passed := self._arguments.push(text)):
            self._out.calls.append(ToolCallDelta(index=self._call_count - 1, arguments=passed))


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


def _merged(calls: Sequence[ToolCallDelta]) -> list[ToolCallDelta]:
    """One delta per call: the pieces of its arguments joined."""
    heads: dict[int, ToolCallDelta] = {}
    arguments: dict[int, list[str]] = {}
    cut_off = {call.index for call in calls if call.incomplete}
    for call in calls:
        heads.setdefault(call.index, call)
        arguments.setdefault(call.index, []).append(call.arguments)
    return [
        ToolCallDelta(
            index=index, id=head.id, name=head.name, arguments="".join(arguments[index]), incomplete=index in cut_off
        )
        for index, head in heads.items()
    ]
