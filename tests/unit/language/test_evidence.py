"""Times in an answer, and the frames they stand for."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.language.evidence import Evidence, cited_seconds, evidence, sentences
from shared.media.chunks import timestamp_text

FRAMES = [place / 2 for place in range(26)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("[00:01:23]", [83.0]),
        ("At [00:00:02.500] a boat", [2.5]),
        ("1:23", [83.0]),
        ("between 0:05 and 0:10", [5.0, 10.0]),
        ("0:05-0:10, then 1:02:03", [5.0, 10.0, 3723.0]),
        ("at 83 s", [83.0]),
        ("At about 83.5 seconds", [83.5]),
        ("from 3 s to 7.5 s", [3.0, 7.5]),
        ("between 3 and 7 seconds", [3.0, 7.0]),
        ("t=4s, @ 5 sec", [4.0, 5.0]),
        ("for 5 s", []),
        ("at 5 boats", []),
        ("it lasts 5 seconds at most", []),
        ("16:9, 1:2:3, 4:30 pm, 4:30 a.m., 0:75", []),
        ("99:99:99 and 1:99:10", []),
        ("120:05", [7205.0]),
        ("", []),
    ],
)
def test_what_is_a_citation(text: str, seconds: list[float]) -> None:
    assert cited_seconds(text) == seconds


def test_evidence_is_the_nearest_frame_with_its_sentence() -> None:
    answer = "A boat leaves [00:00:02.000]. Nothing else.\n- It turns at 4.2 s and\n2. returns (0:12). See 9:59!"
    assert evidence(answer, FRAMES) == [
        Evidence(timestamp_seconds=2.0, frame=4, quote="A boat leaves [00:00:02.000]."),
        Evidence(timestamp_seconds=4.2, frame=8, quote="It turns at 4.2 s and"),
        Evidence(timestamp_seconds=12.0, frame=24, quote="returns (0:12)."),
    ]


def test_a_time_twice_in_a_sentence_counts_once_and_without_frames_there_is_none() -> None:
    assert len(evidence("at 2 s, I say at 2 s.", FRAMES)) == 1
    assert len(evidence("At 2 s. At 2 s.", FRAMES)) == 2
    assert evidence("at 2 s", []) == []


@given(st.lists(st.floats(0, 3599), min_size=1, max_size=40), st.data())
def test_the_time_of_a_frame_finds_that_frame(times: list[float], data: st.DataObject) -> None:
    seen = sorted({round(time, 1) for time in times})
    frame = data.draw(st.integers(0, len(seen) - 1))
    (one,) = evidence(f"Look: [{timestamp_text(seen[frame] + 0.0004)}] there.", seen)
    assert one.frame == frame


@given(st.text(st.sampled_from("ab 0159:.s[]\n-–at!。"), max_size=80))
def test_any_text_has_sentences_that_are_parts_of_it(text: str) -> None:
    spans = list(sentences(text))
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    for one in evidence(text, FRAMES):
        assert one.quote in text
        assert one.timestamp_seconds <= FRAMES[-1] + 1.0


@pytest.mark.parametrize("piece", [" ", ".", "at 5 ", "1:", "9", "at ", "'", "0:05-", "\n"])
def test_long_answers_take_no_time(piece: str) -> None:
    started = time.process_time()
    evidence(f"at 5{piece * 100_000}s.{piece}", FRAMES)
    assert time.process_time() - started < 2.0
