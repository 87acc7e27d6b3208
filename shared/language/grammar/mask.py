"""Which ids may come next in one answer, so that it ends complete and valid within its budget.

Before each token the engine asks ``allowed`` and offers what it drew to ``push``; refused, it draws again. After some
refusals only the next token of the shortest way to the end is left, so that there is always one. The state depends
on the pushed tokens only: pushing an earlier attempt's tokens restores it. Knows nothing of logits.
"""

import llguidance
import numpy as np
import numpy.typing as npt

from shared.errors import BadInput
from shared.language import specials
from shared.language.grammar.closing import Closing
from shared.language.grammar.compiler import CompiledAnswer
from shared.language.grammar.form import AnswerForm, Part, Place
from shared.language.grammar.tokens import FewestTokens, TokenMask

MAX_REFUSALS = 4
MAX_PENDING = 160
"""How much may be open at once: some sixty levels of JSON."""


class AnswerMask:
    """One answer of up to ``max_tokens`` tokens, the one that ends it included."""

    def __init__(self, answer: CompiledAnswer, max_tokens: int) -> None:
        """Raises BadInput when not even the shortest answer fits."""
        check_room(answer, max_tokens)
        self._table, self._left = answer.table, max_tokens
        self._form = AnswerForm(answer)
        self._closing = Closing(self._form)
        self._matcher: llguidance.LLMatcher | None = None
        self._base: TokenMask | None = None
        self._refused: list[int] = []
        self._enter(self._form.start)

    @property
    def is_complete(self) -> bool:
        """Whether the answer has ended."""
        return self._place.part is Part.ENDED

    def allowed(self) -> TokenMask:
        """One flag for each id; never none set before the end. Read-only."""
        if len(self._refused) >= MAX_REFUSALS:
            return self._way_out()
        if self._base is None:
            self._base = self._mask(self._place)
        if not self._refused:
            return self._base
        mask = self._base.copy()
        mask[self._refused] = False
        return mask if mask.any() else self._way_out()

    def push(self, token: int) -> bool:
        """Take ``token``, or refuse it: then nothing has changed, but for what ``allowed`` says."""
        following = self._form.behind(self._place, token)
        if following is None or not self._has_room(following, token):
            self._refused.append(token)
            return False
        self._left -= 1
        self._refused.clear()
        if following.part is not self._place.part:
            self._enter(following)
        else:
            self._move(following, token)
        return True

    def settle(self, token: int) -> int:
        """Take ``token`` or, where it would leave no way to the end, the next token of the shortest one."""
        if self.push(token):
            return token
        instead = self._closing.tokens(self._place)[0]
        assert self.push(instead), "the shortest way to the end is always open"
        return instead

    def accept(self, token: int) -> None:
        """Take a token of an earlier attempt. Raises BadInput when the answer cannot hold it."""
        if not self.push(token):
            raise BadInput("generation.bad_emitted", "the emitted ids do not suit the grammar", param="emitted_ids")

    def fill(self, bitmask: npt.NDArray[np.int32]) -> None:
        """``allowed`` as bits: id i is bit i % 32 of word i // 32."""
        packed = np.packbits(self.allowed(), bitorder="little")
        octets = bitmask.view(np.uint8)
        octets[: len(packed)] = packed
        octets[len(packed) :] = 0

    def _enter(self, place: Place) -> None:
        """A fresh matcher where JSON begins."""
        self._place, self._base = place, None
        value = self._form.value(place)
        self._matcher = value.matcher.deep_copy() if value is not None and value.matcher is not None else None
        prefix = self._form.answer.source.prefix
        if self._matcher is not None and prefix and place.part is Part.CONTENT:
            self._matcher.consume_tokens(FewestTokens(self._table).tokens(prefix.encode()))

    def _move(self, place: Place, token: int) -> None:
        if place is self._place:
            return  # in free text the mask stays what it is
        self._place, self._base = place, None
        if self._matcher is not None and not self._matcher.consume_token(token):
            self._matcher = None

    def _has_room(self, place: Place, token: int) -> bool:
        value = self._form.value(place)
        if value is not None and value.automaton.depth(place.state) > MAX_PENDING:
            return token == self._closing.tokens(self._place)[0]
        return self._closing.fits(place, self._left - 1)

    def _way_out(self) -> TokenMask:
        """The next token of the shortest way to the end."""
        return self._table.only(self._closing.tokens(self._place)[0])

    def _mask(self, place: Place) -> TokenMask:
        names = self._form.markers(place)
        if place.part is Part.CONTENT and not self._closing.fits(Place(Part.SECTION), self._left - 1):
            names = tuple(name for name in names if name != specials.TOOL_SECTION_BEGIN)
        markers = [self._form.answer.special(name) for name in names]
        if self._form.is_free(place):
            return self._table.text_and(*markers)
        if place.part is Part.CALL_ID:
            return self._table.only(*self._id_tokens(place), *markers)
        return self._json_mask(markers) if self._form.value(place) is not None else self._table.only(*markers)

    def _json_mask(self, markers: list[int]) -> TokenMask:
        """Without a matcher that can go on, the shortest way to the end is what is left."""
        ranks = self._table.vocabulary.rank_count
        mask = np.zeros(self._table.size, np.bool_)
        if self._matcher is not None and not self._matcher.is_error():
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            mask[:ranks] = np.unpackbits(bits, count=ranks, bitorder="little")
        mask[markers] = True
        return mask if mask.any() else self._way_out()

    def _id_tokens(self, place: Place) -> set[int]:
        ids, written = self._table.ids, len(place.id)
        rests = [one[written:] for one in self._form.ids(place.calls) if one.startswith(place.id)]
        heads = {rest[:length] for rest in rests for length in range(1, len(rest) + 1)}
        return {ids[head] for head in heads if head in ids}


def minimum_tokens(answer: CompiledAnswer) -> int:
    """Of the shortest answer, the token that ends it included."""
    form = AnswerForm(answer)
    return len(Closing(form).tokens(form.start))


def check_room(answer: CompiledAnswer, max_tokens: int) -> None:
    """Raises BadInput when no answer of the wanted form has so few tokens."""
    form = AnswerForm(answer)
    closing = Closing(form)
    if not closing.fits(form.start, max_tokens):
        least = len(closing.tokens(form.start))
        raise BadInput(
            "chat.answer_cannot_fit",
            f"an answer of the wanted form has at least {least} tokens, and max_tokens is {max_tokens}",
            param="max_tokens",
        )
