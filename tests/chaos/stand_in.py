"""A shard that computes nothing but remembers everything: each page holds a number per position, made from all before
it.

Whatever reads a wrong page, a stale page or a lost token answers otherwise, and ``expected`` says what is right.
"""

from array import array
from collections.abc import Sequence as Listing

from schemas.generation import MediaSpan
from schemas.shards import Forward, ForwardDone, ShardReady, Slice, TokenDrawn
from services.inference.link import ShardLost
from shared.clock import Clock
from shared.errors import Internal

VOCABULARY = 768
PLACEHOLDER = VOCABULARY - 1
"""Never drawn."""
MASK = 2**61 - 1


def chain(before: int, word: int) -> int:
    return (before * 1_000_003 + word * 2_654_435_761 + 12_345) % MASK


def word_of(text: str, offset: int) -> int:
    return sum(ord(letter) * 31**place for place, letter in enumerate(text[:40])) * 4096 + offset


def expected(prompt: Listing[int], media: Listing[tuple[int, int, str]], count: int) -> list[int]:
    """The first tokens of the answer. Each of ``media`` is (position, tokens, key)."""
    words = list(prompt)
    for position, tokens, key in media:
        words[position : position + tokens] = [word_of(key, offset) for offset in range(tokens)]
    state, answer = 1, list[int]()
    for word in words:
        state = chain(state, word)
    for _ in range(count):
        answer.append(state % PLACEHOLDER)
        state = chain(state, answer[-1])
    return answer


class StandIn:
    """A ``ShardLink``. ``die`` takes its memory, and whatever runs, away."""

    def __init__(self, clock: Clock, *, pages: int, page_tokens: int, row_seconds: float, taint: bool = False) -> None:
        self._clock, self._row_seconds, self._taint = clock, row_seconds, taint
        self.about = ShardReady(
            token="local",
            pages=pages,
            page_tokens=page_tokens,
            page_bytes=page_tokens * 8,
            embedding_bytes=8,
            weights_digest="none",
            numerics="{}",
            system_fingerprint="mt-stand-in",
        )
        self.fetching = self._no_encoder
        self._empty()
        self.alive = True

    def _empty(self) -> None:
        self._pages: dict[int, list[int]] = {}
        self._tables: dict[int, list[int]] = {}
        self._media: set[str] = set()

    async def _no_encoder(self, span: MediaSpan) -> None:
        await self._clock.sleep(0.01)

    def die(self) -> None:
        self._empty()
        self.alive = False

    async def ready(self) -> ShardReady:
        await self._clock.sleep(0.05)
        self._empty()
        self.alive = True
        return self.about

    async def fetch(self, key: str, span: MediaSpan) -> None:
        await self.fetching(span)
        if not self.alive:
            raise ShardLost
        self._media.add(key)

    async def execute(self, forward: Forward) -> ForwardDone:
        await self._clock.sleep(0.002 + self._row_seconds * sum(len(piece.ids) // 4 for piece in forward.slices))
        if not self.alive:
            raise ShardLost
        self._note(forward)
        drawn = []
        for piece in forward.slices:
            state = self._compute(piece)
            if piece.draw is not None:
                token = state % PLACEHOLDER if piece.draw.forced is None else piece.draw.forced
                tainted = (token + self._taint * (len(forward.slices) > 1)) % PLACEHOLDER
                drawn.append(TokenDrawn(sequence=piece.sequence, token=tainted))
        return ForwardDone(number=forward.number, drawn=tuple(drawn))

    def _note(self, forward: Forward) -> None:
        for sequence in forward.closed:
            self._tables.pop(sequence, None)
        self._media -= set(forward.dropped)
        for opened in forward.opened:
            self._tables[opened.sequence] = []
        for piece in forward.slices:
            if piece.pages:
                self._tables[piece.sequence][piece.pages_from :] = piece.pages

    def _compute(self, piece: Slice) -> int:
        table, size = self._tables[piece.sequence], self.about.page_tokens
        words: list[int] = list(array("I", piece.ids))
        for place in piece.media:
            if place.key not in self._media:
                raise Internal("stand_in.no_media", f"embeddings {place.key} are not here")
        state = 1
        if piece.first:
            state = self._pages[table[(piece.first - 1) // size]][(piece.first - 1) % size]
        for position, word in enumerate(words, piece.first):
            state = chain(state, self._word(piece, position, word))
            page = self._pages.setdefault(table[position // size], [0] * size)
            page[position % size] = state
        return state

    def _word(self, piece: Slice, position: int, word: int) -> int:
        """A placeholder id stands for what its medium holds there."""
        if word < PLACEHOLDER:
            return word
        place = max((p for p in piece.media if p.position <= position), key=lambda p: p.position)
        return word_of(place.key, position - place.position)
