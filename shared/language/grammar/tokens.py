"""A vocabulary as grammars need it: ids of byte strings, texts in the fewest tokens, sets of ids, llguidance's view."""

import threading
from functools import cached_property

import llguidance
import numpy as np
import numpy.typing as npt

from shared.language import specials
from shared.language.vocabulary import Vocabulary

TokenMask = npt.NDArray[np.bool_]
"""One flag for each id."""

MAX_CLOSING_TOKEN_BYTES = 24
"""Longer tokens are not considered when a text is put into few."""


class TokenTable:
    """``size``: how many logits the model has, at least the vocabulary's size. Threads may share it."""

    def __init__(self, vocabulary: Vocabulary, size: int | None = None) -> None:
        self.vocabulary = vocabulary
        self.size = vocabulary.size if size is None else size
        self._masks: dict[tuple[bool, tuple[int, ...]], TokenMask] = {}
        self._lock = threading.Lock()

    @cached_property
    def ids(self) -> dict[bytes, int]:
        count = self.vocabulary.rank_count
        return {self.vocabulary.token_bytes(token): token for token in range(count)}

    def matcher_source(self) -> llguidance.LLTokenizer:
        """Built once; some hundred milliseconds at the released size."""
        with self._lock:
            return self._tokenizer

    @cached_property
    def _tokenizer(self) -> llguidance.LLTokenizer:
        return llguidance.LLTokenizer(
            _Described(self.vocabulary),  # pyright: ignore[reportArgumentType]
            n_vocab=self.vocabulary.size,
            slices=llguidance.LLTokenizer.json_slices(),
        )

    def only(self, *ids: int) -> TokenMask:
        """Read-only."""
        return self._mask(False, ids)

    def text_and(self, *ids: int) -> TokenMask:
        """Every token of text, and these. Read-only."""
        return self._mask(True, ids)

    def _mask(self, text: bool, ids: tuple[int, ...]) -> TokenMask:
        special = all(token >= self.vocabulary.rank_count for token in ids)
        mask = self._masks.get((text, ids))
        if mask is None:
            mask = np.zeros(self.size, np.bool_)
            mask[: self.vocabulary.rank_count] = text
            mask[list(ids)] = True
            mask.flags.writeable = False
            if special:  # few: the others are not worth keeping
                self._masks[text, ids] = mask
        return mask


class _Described:
    """What llguidance asks of a tokenizer. Special ids have no text that could be confused with text."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        ranks = vocabulary.rank_count
        self.eos_token_id = vocabulary.special(specials.IM_END)
        self.special_token_ids = list(range(ranks, vocabulary.size))
        self.tokens = [vocabulary.token_bytes(token) for token in range(ranks)]
        self.tokens += [f"<|{token}|>".encode() for token in self.special_token_ids]

    def __call__(self, text: str | bytes) -> list[int]:
        decoded = text.decode(errors="replace") if isinstance(text, bytes) else text
        return self._vocabulary.encode(decoded).tolist()


class FewestTokens:
    """Texts put into as few tokens as possible; what a text shares with the last one's end is not computed again."""

    def __init__(self, table: TokenTable) -> None:
        self._ids = table.ids
        self._text = b""
        self._steps: list[tuple[int, int]] = [(0, 0)]
        """For the last n bytes of ``_text``: how many tokens, and the length of the first."""

    def count(self, text: bytes) -> int:
        self._prepare(text)
        return self._steps[len(text)][0]

    def tokens(self, text: bytes) -> list[int]:
        self._prepare(text)
        found = []
        start = 0
        while start < len(text):
            length = self._steps[len(text) - start][1]
            found.append(self._ids[text[start : start + length]])
            start += length
        return found

    def _prepare(self, text: bytes) -> None:
        if text != self._text:
            shared = _shared_end(text, self._text)
            del self._steps[shared + 1 :]
            for left in range(shared + 1, len(text) + 1):
                start = len(text) - left
                self._steps.append(self._best(text[start : start + MAX_CLOSING_TOKEN_BYTES], left))
            self._text = text

    def _best(self, head: bytes, left: int) -> tuple[int, int]:
        ids, steps = self._ids, self._steps
        lengths = (length for length in range(len(head), 0, -1) if head[:length] in ids)
        return min(((steps[left - length][0] + 1, length) for length in lengths), key=lambda step: step[0])


def _shared_end(left: bytes, right: bytes) -> int:
    if left.endswith(right):
        return len(right)
    if right.endswith(left):
        return len(left)
    count = 0
    while left[-1 - count] == right[-1 - count]:
        count += 1
    return count
