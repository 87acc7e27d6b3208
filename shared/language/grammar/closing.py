"""The shortest way from a place in an answer to its end, in tokens.

Of the shortest texts, the one that ``Automaton.closing`` names, in the fewest tokens. Following it, each token makes
the rest one shorter: so whatever fits a budget once can be kept within it.
"""

from collections.abc import Iterable

from shared.language import specials
from shared.language.grammar.compiler import CompiledValue
from shared.language.grammar.form import AnswerForm, Part, Place
from shared.language.grammar.tokens import FewestTokens

Way = tuple[int | bytes, ...]
"""Special and other ids, and texts that are still to be put into tokens."""


class Closing:
    def __init__(self, form: AnswerForm) -> None:
        self._form, self._special = form, form.answer.special
        self._fewest = FewestTokens(form.answer.table)
        self._bounds: dict[Place, int] = {}

    def fits(self, place: Place, left: int) -> bool:
        """Whether the answer can be completed from ``place`` in ``left`` tokens."""
        return self._bound(place) <= left or len(self.tokens(place)) <= left

    def tokens(self, place: Place) -> list[int]:
        """Empty where the answer may stop at any time."""
        return min(map(self._spelled, self._ways(place)), key=len)

    def _bound(self, place: Place) -> int:
        """No fewer than needed: one token for each byte. Kept for places that come again and again."""
        if place in self._bounds:
            return self._bounds[place]
        bound = min(sum(len(part) if isinstance(part, bytes) else 1 for part in way) for way in self._ways(place))
        if place.part in (Part.REASONING, Part.SECTION) or place.untouched:
            self._bounds[place] = bound
        return bound

    def _spelled(self, way: Way) -> list[int]:
        spelled: list[int] = []
        for part in way:
            spelled += self._fewest.tokens(part) if isinstance(part, bytes) else [part]
        return spelled

    def _ways(self, place: Place) -> Iterable[Way]:
        stop = self._form.answer.stops[0]
        if place.part is Part.REASONING:
            return ((self._special(specials.END_THINK), *way) for way in self._ways(self._form.content))
        if place.part is Part.CONTENT:
            return self._content_ways(place, stop)
        if place.part in (Part.ENDING, Part.ENDED):
            return [(stop,) if place.part is Part.ENDING else ()]
        if place.part is Part.SECTION and not place.calls:
            begin = self._special(specials.TOOL_CALL_BEGIN)
            return ((begin, *way) for way in self._ways(Place(Part.CALL_ID)))
        behind_calls = (self._special(specials.TOOL_SECTION_END), stop)
        if place.part is Part.SECTION:
            return [behind_calls]
        behind = (self._special(specials.TOOL_CALL_END), *behind_calls)
        if place.part is Part.CALL_ID:
            return ((*way, *behind) for way in self._call_ways(place))
        value = self._form.value(place)
        assert value is not None
        return [(*_rest(value, place.state), *behind)]

    def _content_ways(self, place: Place, stop: int) -> Iterable[Way]:
        value = self._form.value(place)
        if value is not None:
            yield (*_rest(value, place.state), stop)
        elif not self._form.must_call:
            yield ()
            return
        if place.untouched and self._form.answer.tools:
            begin = self._special(specials.TOOL_SECTION_BEGIN)
            yield from ((begin, *way) for way in self._ways(Place(Part.SECTION)))

    def _call_ways(self, place: Place) -> Iterable[Way]:
        begin = self._special(specials.TOOL_ARGUMENT_BEGIN)
        tools = self._form.answer.tools
        for one, tool in self._form.ids(place.calls).items():
            if one.startswith(place.id):
                yield (one[len(place.id) :], begin, *tools[tool].shortest)


def _rest(value: CompiledValue, state: int) -> Way:
    return value.shortest if state == value.automaton.start else (value.automaton.closing(state),)
