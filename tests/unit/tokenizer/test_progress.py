"""Progress of an answer: repeats are skipped, gaps refused, held-back text is sent once over all attempts."""

import numpy as np
import pytest

from schemas.chat import ChatDelta
from services.tokenizer.progress import ENDED, AnswerProgress
from shared.errors import BadInput, Unavailable
from shared.language.answer import AnswerParser
from shared.language.vocabulary import Vocabulary, tiny_vocabulary

VOCABULARY = Vocabulary(tiny_vocabulary())


def progress(resume: bytes = b"", stop: tuple[str, ...] = ()) -> AnswerProgress:
    return AnswerProgress(AnswerParser(VOCABULARY, thinking=False, stop=stop), VOCABULARY, resume)


def data(text: str) -> bytes:
    """One token for each byte."""
    return np.array(list(text.encode()), "<u4").tobytes()


def test_repeated_tokens_are_skipped() -> None:
    answer = progress(data("ab"))
    delta = answer.take(0, data("abcd"))
    assert (delta.content, delta.resume) == ("cd", data("cd"))
    assert answer.take(1, data("bc")) == ChatDelta()
    assert answer.ids == data("abcd")


def test_a_gap_is_another_attempt() -> None:
    with pytest.raises(Unavailable):
        progress(data("ab")).take(3, data("d"))


def test_nothing_behind_a_stop_string_is_kept() -> None:
    answer = progress(stop=("b",))
    assert answer.take(0, data("abc")) == ChatDelta(content="a", resume=data("ab"))
    assert answer.is_complete


def test_held_back_text_is_sent_once() -> None:
    first = progress(stop=("end",))
    assert first.take(0, data("the e")).content == "the "
    assert first.finish() == ChatDelta(content="e", resume=ENDED)
    assert first.finish() == ChatDelta()
    second = progress(data("the e") + ENDED, stop=("end",))
    assert second.is_complete
    assert second.count == 5
    assert second.finish() == ChatDelta()
    third = progress(data("the e"), stop=("end",))
    assert not third.is_complete
    assert third.finish().content == "e"


def test_a_character_split_between_attempts_comes_once() -> None:
    first = progress()
    assert first.take(0, data("é")[:4]).content == ""
    assert progress(first.ids).take(1, data("é")[4:]).content == "é"


@pytest.mark.parametrize("resume", [b"a", b"\xff\xff\xff", np.array([VOCABULARY.size], "<u4").tobytes(), ENDED * 2])
def test_foreign_resume_is_refused(resume: bytes) -> None:
    with pytest.raises(BadInput):
        progress(resume)
