"""Progress of an answer: repeats are skipped, gaps refused, held-back text is sent once over all attempts."""

import numpy as np
import pytest

from schemas.chat import ChatDelta, ToolCallDelta
from schemas.generation import Logprobs, TokensGenerated
from services.tokenizer.progress import ENDED, AnswerProgress
from shared.errors import BadInput, Unavailable
from shared.language import specials
from shared.language.answer import AnswerParser
from shared.language.vocabulary import Vocabulary, tiny_vocabulary

VOCABULARY = Vocabulary(tiny_vocabulary())


def progress(resume: bytes = b"", stop: tuple[str, ...] = ()) -> AnswerProgress:
    return AnswerProgress(AnswerParser(VOCABULARY, thinking=False, stop=stop), VOCABULARY, resume)


def data(text: str) -> bytes:
    """One token for each byte."""
    return np.array(list(text.encode()), "<u4").tobytes()


def tokens(first_position: int, ids: bytes, logprobs: tuple[Logprobs, ...] = ()) -> TokensGenerated:
    return TokensGenerated(first_position=first_position, ids=ids, logprobs=logprobs)


def test_repeated_tokens_are_skipped() -> None:
    answer = progress(data("ab"))
    delta = answer.take(tokens(0, data("abcd")))
    assert (delta.content, delta.resume) == ("cd", data("cd"))
    assert answer.take(tokens(1, data("bc"))) == ChatDelta()
    assert answer.ids == data("abcd")


def test_a_gap_is_another_attempt() -> None:
    with pytest.raises(Unavailable):
        progress(data("ab")).take(tokens(3, data("d")))


def test_nothing_behind_a_stop_string_is_kept() -> None:
    answer = progress(stop=("b",))
    assert answer.take(tokens(0, data("abc"))) == ChatDelta(content="a", resume=data("ab"))
    assert answer.is_complete


def test_held_back_text_is_sent_once() -> None:
    first = progress(stop=("end",))
    assert first.take(tokens(0, data("the e"))).content == "the "
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
    assert first.take(tokens(0, data("é")[:4])).content == ""
    assert progress(first.ids).take(tokens(1, data("é")[4:])).content == "é"


@pytest.mark.parametrize("resume", [b"a", b"\xff\xff\xff", np.array([VOCABULARY.size], "<u4").tobytes(), ENDED * 2])
def test_foreign_resume_is_refused(resume: bytes) -> None:
    with pytest.raises(BadInput):
        progress(resume)


def test_logprobs_are_of_content_only_and_repeats_are_skipped() -> None:
    answer = AnswerProgress(AnswerParser(VOCABULARY, thinking=True), VOCABULARY)
    end, stop = VOCABULARY.special("</think>"), VOCABULARY.special("<|im_end|>")
    ids = np.array([*b"r", end, *b"ab"], "<u4").tobytes()
    logprobs = tuple(Logprobs(chosen=-n, top_ids=(97 + n, stop), top=(-1.0, -2.0)) for n in range(4))
    assert answer.take(tokens(0, ids[:12], logprobs[:3])).logprobs[0].chosen.data == b"a"
    (second,) = answer.take(tokens(2, ids[8:], logprobs[2:])).logprobs
    assert (second.chosen.data, second.chosen.logprob) == (b"b", -3)
    assert [top.data for top in second.top] == [b"d"]


def test_an_answer_with_a_call_that_was_cut_off_ended_too_early() -> None:
    answer = progress()
    markers = [VOCABULARY.special(name) for name in specials.TOOL_MARKERS]
    ids = np.array([markers[0], markers[2], *b"functions.f:0", markers[3], *b"{"], "<u4").tobytes()
    answer.take(tokens(0, ids))
    assert answer.finish().tool_calls == (ToolCallDelta(index=0, incomplete=True),)
    assert answer.finish_reason("stop") == "length"
