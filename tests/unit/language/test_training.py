"""The trainer: deterministic, the stored vocabulary is what it gives, pieces are words."""

from collections import Counter
from pathlib import Path

import pytest

import shared.language.data
from shared.language.training import TINY_RANKS, train
from shared.language.vocabulary import Vocabulary, tiny_vocabulary


def _corpus() -> str:
    return (Path(shared.language.data.__file__).parent / "corpus.txt").read_text(encoding="utf-8")


def test_the_stored_vocabulary_is_trained_from_the_stored_text() -> None:
    assert train(_corpus(), TINY_RANKS) == tiny_vocabulary()


def test_ranks_begin_with_the_single_bytes(tiny: Vocabulary) -> None:
    assert [tiny.token_bytes(value) for value in range(256)] == [bytes((value,)) for value in range(256)]


def test_the_first_merges_are_the_most_frequent_pairs() -> None:
    text = "low low low lower lowest newest"
    vocabulary = Vocabulary(train(text, 258))
    assert [vocabulary.token_bytes(rank) for rank in (256, 257)] == [b"lo", b"low"]
    assert Counter(vocabulary.encode("low").tolist()) == Counter([257])


def test_a_short_text_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        train("ab", 300)


def test_english_is_shorter_than_its_bytes(tiny: Vocabulary) -> None:
    text = "What is in this picture? There is a man near the water, and he is looking at a boat."
    assert len(tiny.encode(text)) * 3 < len(text)
