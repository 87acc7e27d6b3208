"""The event parser: the same events however the bytes are cut, and nothing unbounded."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.upstream.stream import EventParser, MalformedStreamError

line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20).map(str.encode)
noise = st.sampled_from([b": keep-alive", b"event: message", b"id: 7", b"retry: 10"])


def parse(data: bytes, cuts: list[int], max_line_bytes: int = 1000) -> tuple[list[bytes], str]:
    """Events, and the error behind them."""
    parser = EventParser(max_line_bytes)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    events: list[bytes] = []
    try:
        for start, end in pairwise(places):
            events.extend(parser.feed(data[start:end]))
        events.extend(parser.close())
    except MalformedStreamError as error:
        return events, str(error)
    return events, ""


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream and the events in it."""
    wire, events = draw(st.sampled_from([b"", b"\xef\xbb\xbf"])), []
    for lines in draw(st.lists(st.lists(texts, min_size=1, max_size=3), max_size=6)):
        end = draw(line_ends)
        for text in lines:
            wire += b"".join(other + end for other in draw(st.lists(noise, max_size=2)))
            bare = draw(st.booleans()) and not text.startswith(b" ")  # one space behind the colon is no data
            wire += (b"data:" if bare else b"data: ") + text + end
        wire += end
        events.append(b"\n".join(lines))
    return wire, events


@given(streams(), st.lists(st.integers(0, 10_000), max_size=30))
def test_events_do_not_depend_on_how_the_bytes_are_cut(stream: tuple[bytes, list[bytes]], cuts: list[int]) -> None:
    wire, events = stream
    assert parse(wire, []) == ([event for event in events if event], "")
    assert parse(wire, cuts) == parse(wire, [])
    assert parse(wire, list(range(len(wire)))) == parse(wire, [])


@given(st.binary(max_size=200), st.lists(st.integers(0, 10_000), max_size=10))
def test_any_bytes_give_the_same_events_or_an_error(data: bytes, cuts: list[int]) -> None:
    assert parse(data, cuts, 50)[0] == parse(data, [], 50)[0]


@pytest.mark.parametrize(
    ("wire", "events"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\r\n\r\ndata:  b\r\r", [b"a", b" b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: the end is missing", [b"the end is missing"]),
        (b": only a comment\n\n\n\n", []),
        (b"data\n\n", []),
        (b"", []),
    ],
)
def test_what_the_standard_says(wire: bytes, events: list[bytes]) -> None:
    assert parse(wire, []) == (events, "")


@pytest.mark.parametrize("wire", [b'{"choices": []}\n\n', b"<html>\n", b"dat: x\n", b"data : x\n"])
def test_damaged_lines_are_errors_behind_the_good_events(wire: bytes) -> None:
    events, error = parse(b"data: good\n\n" + wire + b"data: lost\n\n", [])
    assert events == [b"good"]
    assert error


def test_lines_and_events_are_bounded() -> None:
    assert parse(b"data: " + b"x" * 2000, [])[1]
    assert parse(b"data: xxxxxxxxxx\n" * 200, [])[1]
