"""Turns and media manifests to the prompt an engine takes: token ids and where media embeddings go.

Encodings are kept per text, and per message object, so a history that grows by one message is not encoded again.
Knows nothing of messages, roles or the wire.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.generation import MediaSpan
from schemas.media import MediaChunk, MediaManifest
from shared.language import specials
from shared.language.segments import LaterTurn, Marker, MediaSlot, Segment, Text, Turn, joined
from shared.language.vocabulary import TokenIds, Vocabulary

MAX_CACHED_CHARS = 32_000_000
_TURN_OVERHEAD = 256
"""What an entry takes besides its ids, in ids: many short turns are bounded too."""


@dataclass(frozen=True)
class Prompt:
    """``ids``: uint32, placeholders expanded; ``media``: spans in order of position."""

    ids: TokenIds
    media: tuple[MediaSpan, ...]

    @property
    def media_tokens(self) -> int:
        return sum(span.tokens for span in self.media)


@dataclass(frozen=True, slots=True)
class _Pads:
    chunk: MediaChunk


class PromptEncoder:
    """Encodes turns with one vocabulary. Threads may share it."""

    def __init__(self, vocabulary: Vocabulary, *, max_cached_chars: int = MAX_CACHED_CHARS) -> None:
        self._vocabulary = vocabulary
        self._texts = _TextCache(vocabulary, max_cached_chars)
        self._turns = _TurnCache(max_cached_chars)
        self._markers = {name: np.array([number], np.uint32) for name, number in vocabulary.special_ids.items()}

    def encode(self, turns: Iterable[Turn], manifests: Sequence[MediaManifest] = ()) -> Prompt:
        """``manifests[i]`` belongs to the media slot of index i."""
        pieces: list[TokenIds] = []
        spans: list[MediaSpan] = []
        position = 0
        for turn in turns:
            if isinstance(turn, LaterTurn):
                pieces.append(self._later(turn))
                position += len(pieces[-1])
                continue
            for segment in _expanded(turn, manifests):
                if isinstance(segment, _Pads):
                    spans.append(_span(segment.chunk, position))
                pieces.append(self._ids(segment))
                position += len(pieces[-1])
        ids = np.concatenate(pieces) if pieces else np.empty(0, np.uint32)
        return Prompt(ids, tuple(spans))

    def _later(self, turn: LaterTurn) -> TokenIds:
        """Of a turn without media."""
        ids = self._turns.get(turn)
        if ids is None:
            ids = np.concatenate([self._ids(segment) for segment in joined(turn)])
            self._turns.keep(turn, ids)
        return ids

    def _ids(self, segment: Segment | _Pads) -> TokenIds:
        if isinstance(segment, Marker):
            return self._markers[segment.name]
        if isinstance(segment, _Pads):
            return np.full(segment.chunk.tokens, self._vocabulary.special(specials.MEDIA_PAD), np.uint32)
        assert isinstance(segment, Text)
        return self._texts.encode(segment.text)


def _span(chunk: MediaChunk, position: int) -> MediaSpan:
    return MediaSpan(position=position, tokens=chunk.tokens, grid=chunk.grid, patches=chunk.patches)


def _expanded(turn: Iterable[Segment], manifests: Sequence[MediaManifest]) -> Iterator[Segment | _Pads]:
    """Slots become their chunks; a timestamp joins the text before it, as in the released template."""
    waiting: list[Segment] = []
    for segment in turn:
        if not isinstance(segment, MediaSlot):
            waiting.append(segment)
            continue
        for chunk in manifests[segment.index].chunks:
            waiting += (Text(chunk.timestamp_text), Marker(specials.MEDIA_BEGIN), Text(segment.kind))
            yield from joined([*waiting, Marker(specials.MEDIA_CONTENT)])
            yield _Pads(chunk)
            waiting = [Marker(specials.MEDIA_END)]
    yield from joined(waiting)


class _TextCache:
    """Text → ids, least recently used out first, bounded by characters kept."""

    def __init__(self, vocabulary: Vocabulary, max_chars: int) -> None:
        self._vocabulary = vocabulary
        self._max_chars = max_chars
        self._chars = 0
        self._known: OrderedDict[str, TokenIds] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, text: str) -> TokenIds:
        with self._lock:
            if (ids := self._known.get(text)) is not None:
                self._known.move_to_end(text)
                return ids
        ids = self._vocabulary.encode(text)
        self._keep(text, ids)
        return ids

    def _keep(self, text: str, ids: TokenIds) -> None:
        with self._lock:
            if text in self._known or len(text) > self._max_chars:
                return
            self._known[text] = ids
            self._chars += len(text)
            while self._chars > self._max_chars:
                self._chars -= len(self._known.popitem(last=False)[0])


class _TurnCache:
    """(source object, form) → ids, least recently used out first, bounded by ids kept.

    An entry holds its source, so that no other object can have the same identity.
    """

    def __init__(self, max_ids: int) -> None:
        self._max_ids = max_ids
        self._size = 0
        self._known: OrderedDict[tuple[int, Hashable], tuple[TokenIds, object]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, turn: LaterTurn) -> TokenIds | None:
        key = (id(turn.source), turn.form)
        with self._lock:
            found = self._known.get(key)
            if found is None:
                return None
            self._known.move_to_end(key)
            return found[0]

    def keep(self, turn: LaterTurn, ids: TokenIds) -> None:
        key = (id(turn.source), turn.form)
        with self._lock:
            if key in self._known or len(ids) + _TURN_OVERHEAD > self._max_ids:
                return
            self._known[key] = (ids, turn.source)
            self._size += len(ids) + _TURN_OVERHEAD
            while self._size > self._max_ids:
                self._size -= len(self._known.popitem(last=False)[1][0]) + _TURN_OVERHEAD
