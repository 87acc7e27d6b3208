"""The order of an answer's parts: reasoning, content, tool section, calls, end. One token leads from place to place.

Input: a compiled answer grammar. Special ids are the borders, never text. Knows nothing of budgets or masks.
"""

from dataclasses import dataclass, replace
from enum import Enum, auto

from shared.language import specials
from shared.language.grammar.automaton import DEAD
from shared.language.grammar.compiler import CompiledAnswer, CompiledValue


class Part(Enum):
    REASONING = auto()
    CONTENT = auto()
    SECTION = auto()
    """Inside the tool section, between calls."""
    CALL_ID = auto()
    ARGUMENTS = auto()
    ENDING = auto()
    """Behind the tool section."""
    ENDED = auto()


@dataclass(frozen=True)
class Place:
    """``state``: in the JSON of content or arguments; ``id``: as far as it is written; ``calls``: how many before."""

    part: Part
    state: int = 0
    calls: int = 0
    id: bytes = b""
    tool: str = ""
    untouched: bool = False
    """Nothing of the content has been written."""


class AnswerForm:
    def __init__(self, answer: CompiledAnswer) -> None:
        self.answer, self._source = answer, answer.source
        self.content = Place(Part.CONTENT, answer.content_start, untouched=not answer.source.prefix)
        """Where content begins."""
        self.start = Place(Part.REASONING) if answer.source.thinking else self.content
        self._ids: dict[int, dict[bytes, str]] = {}

    def ids(self, calls: int) -> dict[bytes, str]:
        """Call id → tool, for the next call after ``calls``."""
        if calls not in self._ids:
            number = self._source.first_index + calls
            self._ids = {calls: {f"functions.{name}:{number}".encode(): name for name in self.answer.tools}}
        return self._ids[calls]

    def value(self, place: Place) -> CompiledValue | None:
        """The JSON that is being written."""
        if place.part is Part.ARGUMENTS:
            return self.answer.tools[place.tool]
        return self.answer.content if place.part is Part.CONTENT and not self.must_call else None

    @property
    def must_call(self) -> bool:
        """Then there is no content."""
        return self._source.calls == "required"

    def is_free(self, place: Place) -> bool:
        """Whether any text may stand here."""
        is_content = place.part is Part.CONTENT and self.answer.content is None and not self.must_call
        return place.part is Part.REASONING or is_content

    def behind(self, place: Place, token: int) -> Place | None:
        """The place after ``token``; None where the form does not allow it."""
        vocabulary = self.answer.table.vocabulary
        if token >= vocabulary.rank_count:
            name = vocabulary.special_names.get(token, "")
            return self._behind_marker(place, name) if name in self.markers(place) else None
        data = vocabulary.token_bytes(token)
        if self.is_free(place):
            return replace(place, untouched=False) if place.untouched else place
        if place.part is Part.CALL_ID:
            written = place.id + data
            fits = any(one.startswith(written) for one in self.ids(place.calls))
            return replace(place, id=written) if fits else None
        value = self.value(place)
        state = DEAD if value is None else value.automaton.read(place.state, data)
        return None if state == DEAD else replace(place, state=state, untouched=False)

    def _behind_marker(self, place: Place, name: str) -> Place:
        if name == specials.END_THINK:
            return self.content
        if name == specials.TOOL_SECTION_BEGIN:
            return Place(Part.SECTION)
        if name == specials.TOOL_CALL_BEGIN:
            return Place(Part.CALL_ID, calls=place.calls)
        if name == specials.TOOL_ARGUMENT_BEGIN:
            tool = self.ids(place.calls)[place.id]
            return Place(Part.ARGUMENTS, self.answer.tools[tool].automaton.start, place.calls, tool=tool)
        if name == specials.TOOL_CALL_END:
            return Place(Part.SECTION, calls=place.calls + 1)
        return Place(Part.ENDING if name == specials.TOOL_SECTION_END else Part.ENDED)

    def markers(self, place: Place) -> tuple[str, ...]:
        """Special tokens that may stand here."""
        if place.part is Part.REASONING:
            return (specials.END_THINK,)
        if place.part is Part.CONTENT:
            return self._content_markers(place)
        if place.part is Part.SECTION:
            most = self._source.max_calls
            more = (specials.TOOL_CALL_BEGIN,) if most is None or place.calls < most else ()
            return (*more, specials.TOOL_SECTION_END) if place.calls else more
        if place.part is Part.CALL_ID:
            return (specials.TOOL_ARGUMENT_BEGIN,) if place.id in self.ids(place.calls) else ()
        if place.part is Part.ARGUMENTS:
            complete = self.answer.tools[place.tool].automaton.accepts(place.state)
            return (specials.TOOL_CALL_END,) if complete else ()
        return specials.STOPS

    def _content_markers(self, place: Place) -> tuple[str, ...]:
        if self.must_call:
            return (specials.TOOL_SECTION_BEGIN,)
        content = self.answer.content
        complete = content is None or content.automaton.accepts(place.state)
        may_call = self._source.calls == "auto" and (complete or place.untouched)
        return (*((specials.TOOL_SECTION_BEGIN,) if may_call else ()), *(specials.STOPS if complete else ()))
