"""Trains a small byte-pair vocabulary in the released format. Deterministic: equal text gives equal bytes.

Input: text. Output: a tiktoken file whose ranks 0 to 255 are the single bytes.
``python -m shared.language.training`` rewrites ``data/tiny.tiktoken`` from ``data/corpus.txt``.
"""

import base64
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import regex

from shared.language.vocabulary import SPLIT_PATTERN

TINY_RANKS = 2048

Pair = tuple[bytes, bytes]


def train(text: str, rank_count: int) -> bytes:
    """A tiktoken file of ``rank_count`` ranks. Raises ValueError when the text is too short for so many."""
    merges = _Merges(_words(text))
    tokens = [bytes((value,)) for value in range(256)]
    known = set(tokens)
    while len(tokens) < rank_count:
        token = merges.apply_best()
        if token not in known:  # two ways of cutting a word may meet in the same token
            tokens.append(token)
            known.add(token)
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


def _words(text: str) -> Counter[bytes]:
    return Counter(word.encode() for word in regex.findall(SPLIT_PATTERN, text, flags=regex.V1))


class _Merges:
    """Every distinct word as its current parts, and how often each pair of neighbours occurs."""

    def __init__(self, words: Counter[bytes]) -> None:
        self._parts = [[bytes((value,)) for value in word] for word in words]
        self._weights = list(words.values())
        self._counts: Counter[Pair] = Counter()
        self._places: defaultdict[Pair, set[int]] = defaultdict(set)
        for place in range(len(self._parts)):
            self._count(place, 1)

    def apply_best(self) -> bytes:
        """Merge the most frequent pair everywhere (ties: the smallest bytes) and return the new token."""
        if not self._counts:
            raise ValueError("the text is too short for so many ranks")
        pair = min(self._counts, key=lambda pair: (-self._counts[pair], pair))
        for place in self._places.pop(pair):
            self._count(place, -1)
            self._parts[place] = _merged(self._parts[place], pair)
            self._count(place, 1)
        return pair[0] + pair[1]

    def _count(self, place: int, sign: int) -> None:
        parts = self._parts[place]
        for pair in pairwise(parts):
            self._counts[pair] += sign * self._weights[place]
            if self._counts[pair] <= 0:
                del self._counts[pair]
            self._places[pair].add(place)


def _merged(parts: list[bytes], pair: Pair) -> list[bytes]:
    result: list[bytes] = []
    index = 0
    while index < len(parts):
        width = 2 if tuple(parts[index : index + 2]) == pair else 1
        result.append(b"".join(parts[index : index + width]))
        index += width
    return result


def main() -> None:
    data = Path(__file__).parent / "data"
    (data / "tiny.tiktoken").write_bytes(train((data / "corpus.txt").read_text(encoding="utf-8"), TINY_RANKS))


if __name__ == "__main__":
    main()
