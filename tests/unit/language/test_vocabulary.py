"""Vocabulary: the released vectors, markers stay text, long texts are cut as released, round trips."""

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import BadInput
from shared.language import specials
from shared.language.vocabulary import (
    MAX_PIECE_CHARS,
    MAX_RUN_CHARS,
    Vocabulary,
    cut,
    load_vocabulary,
    tiny_vocabulary,
)

TINY = Vocabulary(tiny_vocabulary())

GOLDEN = {
    "hi, who are you?": "9663 11 1364 554 398 30",
    "Hello, world!": "19180 11 2695 0",
    "你好，世界": "33845 378 2243",
    "月之暗面 Moonshot AI": "892 685 5519 696 30218 10065 22572",
    "  leading spaces\n\nnew": "220 8134 14803 382 3514",
    "1234567 IT'S can't": "6694 12972 22 9752 34480 8971",
    "functions.get_weather:0": "41937 1150 21055 2800 25 15",
    "00:00:02.000": "465 25 465 25 4312 13 1476",
    "def f(x):\n    return x+1\n": "1166 285 3940 2360 274 745 1288 10 16 198",
    "日本語テスト": "4546 63011 25875 33360",
}


@pytest.mark.parametrize("text", GOLDEN)
def test_released_vectors(released: Vocabulary, text: str) -> None:
    assert released.encode(text).tolist() == [int(number) for number in GOLDEN[text].split()]


def test_released_special_ids(released: Vocabulary) -> None:
    assert released.rank_count == 163_584
    assert released.special(specials.IM_END) == 163_586
    assert released.special(specials.MEDIA_PAD) == 163_605
    assert released.special("[PAD]") == 163_839


def test_our_tokenizer_config_has_the_released_layout(released: Vocabulary) -> None:
    config = specials.tokenizer_config(released.rank_count)
    assert {entry["content"]: int(key) for key, entry in config["added_tokens_decoder"].items()} == dict(
        released.special_ids
    )


def test_special_ids_without_a_config_are_at_the_released_offsets(tiny: Vocabulary) -> None:
    assert Vocabulary(tiny_vocabulary()).special_ids == tiny.special_ids
    assert tiny.special(specials.END_THINK) == 2048 + 23


@given(st.lists(st.sampled_from([*specials.OFFSETS, "a", " ", "<|", "\n", "é"])).map("".join))
def test_a_marker_in_text_stays_text(text: str) -> None:
    vocabulary = TINY
    ids = vocabulary.encode(text)
    assert ids.max(initial=0) < vocabulary.rank_count
    assert vocabulary.decode_bytes(ids).decode() == text


@given(st.text())
def test_round_trip(text: str) -> None:
    vocabulary = TINY
    assert vocabulary.decode_bytes(vocabulary.encode(text)).decode() == text


def test_special_and_unknown_ids_have_no_bytes(tiny: Vocabulary) -> None:
    assert [tiny.token_bytes(token_id) for token_id in (-1, tiny.rank_count, tiny.size, 10**9)] == [b""] * 4


def test_lone_surrogates_are_replaced(tiny: Vocabulary) -> None:
    assert tiny.decode_bytes(tiny.encode("a\ud800b")).decode() == "a\ufffdb"


def _cut_as_released(text: str) -> Iterator[str]:
    """The rule of the reference page, one character at a time."""
    for begin in range(0, len(text), MAX_PIECE_CHARS):
        piece = text[begin : begin + MAX_PIECE_CHARS]
        start, run = 0, 0
        for index, character in enumerate(piece):
            same = index > 0 and character.isspace() == piece[index - 1].isspace()
            run = run + 1 if same else 1
            if run > MAX_RUN_CHARS:
                yield piece[start:index]
                start, run = index, 1
        yield piece[start:]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", " ", "\n", "a ", "\u3000", "月"]),
            st.sampled_from([1, 7, 12_499, 12_500, 24_999, 25_000, 25_001, 37_500, 50_001]),
        ),
        max_size=9,
    )
)
def test_long_texts_are_cut_as_released(runs: list[tuple[str, int]]) -> None:
    text = "".join(piece * count for piece, count in runs)
    assert list(cut(text)) == list(_cut_as_released(text))


def test_a_text_longer_than_one_piece_is_encoded_whole(tiny: Vocabulary) -> None:
    text = "the tide comes in. " * 22_000
    ids = tiny.encode(text)
    assert ids.dtype == np.uint32
    assert tiny.decode_bytes(ids).decode() == text


@pytest.mark.parametrize(
    "data",
    [
        b"!!! 0\n",
        b"YQ== x\n",
        b"YQ==\n",
        b"YQ== 1\n",
        b"YQ== 0\n",
        b"".join(base64.b64encode(bytes((value,))) + b" %d\n" % max(value, 1) for value in range(256)),
    ],
)
def test_malformed_vocabularies_are_refused(data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        Vocabulary(data)
    assert caught.value.code == "checkpoint.vocabulary"


@pytest.mark.parametrize("key", ["x", "5", "2049"])
def test_misplaced_special_tokens_are_refused(key: str) -> None:
    config = {"added_tokens_decoder": {key: {"content": specials.IM_END}}}
    with pytest.raises(BadInput):
        Vocabulary(tiny_vocabulary(), config)


def test_a_missing_vocabulary_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"tiktoken\.model"):
        load_vocabulary(tmp_path)
