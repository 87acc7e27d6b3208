"""The pure rules of the upstream service: waiting, resting, naming, choosing, gathering."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.blobs import BlobRef
from schemas.chat import ChatDelta, ToolCallDelta
from schemas.media import MediaFrame
from services.upstream import frames, resume, tools
from services.upstream.announcement import metadata
from services.upstream.breaker import Breaker
from services.upstream.config import UpstreamConfig, base_url, check_names, endpoints
from services.upstream.faults import broken, retry_after_seconds
from services.upstream.formats import media_type
from services.upstream.key import MASK, Key
from services.upstream.retry import RetryPolicy, wait_seconds
from services.upstream.translate import ToolPiece
from shared.errors import BadInput, Unavailable

POLICY = RetryPolicy(max_retries=3, max_wait_seconds=20.0)
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


@given(st.integers(0, 2), st.floats(0, 1, exclude_max=True), st.floats(0, 19))
def test_waits_grow_are_bounded_and_never_shorter_than_asked(done: int, chance: float, asked: float) -> None:
    fault = broken("failed", "it failed")
    fault.retry_after_seconds = asked
    wait = wait_seconds(POLICY, fault, done, repeatable=True, remaining_seconds=100.0, chance=chance)
    assert wait is not None
    assert max(asked, 0.125 * 2**done) <= wait <= max(asked, 0.25 * 2**done)


@pytest.mark.parametrize(
    "changes",
    [{"repeatable": False}, {"remaining_seconds": 0.01}, {"retries_done": 3}, {"transient": False}, {"asked": 21.0}],
)
def test_when_not_to_try_again(changes: dict[str, float]) -> None:
    fault = broken("failed", "it failed", transient=changes.get("transient", True) is True)
    fault.retry_after_seconds = changes.get("asked")
    wait = wait_seconds(
        POLICY,
        fault,
        int(changes.get("retries_done", 0)),
        repeatable=changes.get("repeatable", True) is True,
        remaining_seconds=changes.get("remaining_seconds", 100.0),
        chance=0.5,
    )
    assert wait is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        (" 0.5 ", 0.5),
        ("Mon, 23 Nov 2026 12:00:07 GMT", 7.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("9" * 400, None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOW) == seconds


def test_the_breaker_opens_rests_probes_once_and_closes() -> None:
    breaker = Breaker(failures=2, open_seconds=10.0)
    breaker.failed_at(0.0)
    assert breaker.start(1.0) == 0.0
    breaker.failed_at(1.0)
    assert breaker.start(2.0) == 9.0
    assert breaker.start(11.0) == 0.0
    assert breaker.start(11.0) > 0.0, "one probe at a time"
    breaker.failed_at(12.0)
    assert breaker.start(13.0) == 9.0
    assert breaker.start(22.0) == 0.0
    breaker.abandoned()
    assert breaker.start(22.0) == 0.0
    breaker.succeeded()
    assert breaker.start(22.0) == breaker.start(22.0) == 0.0


def frame(seconds: float, size: int = 10) -> MediaFrame:
    return MediaFrame(index=0, timestamp_seconds=seconds, jpeg=BlobRef(key="sha256/0", size_bytes=size))


@given(
    st.lists(st.integers(0, 2000), min_size=1, max_size=60, unique=True),
    st.lists(st.floats(0, 200), max_size=10),
    st.sampled_from(["uniform", "scenes"]),
    st.integers(1, 40),
    st.integers(10, 500),
)
def test_chosen_frames_are_ordered_distinct_and_within_bounds(
    tenths: list[int], cuts: list[float], how: str, limit: int, max_bytes: int
) -> None:
    found = [frame(tenth / 10) for tenth in sorted(tenths)]
    chosen = frames.choose(
        found, sorted(cuts), how="scenes" if how == "scenes" else "uniform", limit=limit, max_bytes=max_bytes
    )
    times = [one.timestamp_seconds for one in chosen]
    assert times == sorted(set(times))
    assert len(times) == min(limit, len(found), max_bytes // 10)
    assert times[0] == found[0].timestamp_seconds
    starts = {next((one.timestamp_seconds for one in found if one.timestamp_seconds >= cut), None) for cut in cuts}
    if how == "scenes" and len(starts | {times[0]}) <= len(times):
        assert starts - {None} <= set(times)
    if how == "uniform" and len(times) > 1:
        assert times[-1] == found[-1].timestamp_seconds


deltas = st.one_of(
    st.builds(ChatDelta, reasoning=st.text(max_size=9)),
    st.builds(ChatDelta, content=st.text(max_size=9)),
)


@given(st.lists(deltas, max_size=8), st.lists(st.integers(1, 5), max_size=30))
def test_what_was_delivered_is_skipped_exactly(sent: list[ChatDelta], steps: list[int]) -> None:
    already = resume.delivered(b"".join(resume.piece(delta) for delta in sent))
    skipper = resume.Skipper(already)
    text, new, place = already.content + "and more", "", 0
    for step in [*steps, len(text)]:
        new += skipper.text("", text[place : place + step])[1]
        place += step
    assert new == "and more"
    assert skipper.text(already.reasoning, "") == ("", "")
    skipper.finish()


def test_resumes_that_are_not_ours_or_cannot_be_repeated() -> None:
    assert resume.delivered(b"").is_empty
    with pytest.raises(Unavailable, match="not resumable"):
        resume.delivered(resume.UNREPEATABLE * 3)
    for foreign in (b"x", b"\xff\xff\xff\xffxx", b"\x02\x00\x00\x00xx"):
        with pytest.raises(BadInput):
            resume.delivered(foreign)
    skipper = resume.Skipper(resume.Delivered(content="abc"))
    with pytest.raises(Unavailable):
        skipper.text("", "abx")
    with pytest.raises(Unavailable):
        resume.Skipper(resume.Delivered(content="abc")).finish()


@given(
    st.lists(st.tuples(st.sampled_from(["f", "g"]), st.text(min_size=1, max_size=12)), min_size=1, max_size=4),
    st.data(),
)
def test_calls_are_gathered_however_they_are_cut(wanted: list[tuple[str, str]], data: st.DataObject) -> None:
    indexed = data.draw(st.booleans())
    gatherer = tools.CallGatherer()
    for place, (name, text) in enumerate(wanted):
        cut = data.draw(st.integers(0, len(text)))
        index = place if indexed else None
        gatherer.take(
            [ToolPiece(index=index), ToolPiece(index=index, id=f"id{place}", name=name, arguments=text[:cut])]
        )
        gatherer.take([ToolPiece(index=index, arguments=text[cut:])])
    calls = gatherer.calls("c")
    assert [(call.name, call.arguments) for call in calls] == [(name, text.strip() or "{}") for name, text in wanted]


def test_deltas_of_calls_give_the_calls_back() -> None:
    gatherer = tools.CallGatherer()
    gatherer.take([ToolPiece(index=0, id="a", name="f", arguments='{"x": "' + "é" * 1000 + '"}')])
    calls = gatherer.calls("c")
    flat: list[ToolCallDelta] = [delta for group in tools.deltas(calls) for delta in group]
    assert "".join(delta.arguments for delta in flat) == calls[0].arguments
    assert max(len(delta.arguments) for delta in flat) <= tools.DELTA_CHARACTERS
    assert list(tools.deltas(calls)) == list(tools.deltas(calls))


@pytest.mark.parametrize(
    ("schema", "arguments", "fits"),
    [
        (
            {"type": "object", "properties": {"pattern": {"type": "string"}}, "additionalProperties": False},
            {"pattern": "a"},
            True,
        ),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, {"b": 1}, False),
        (
            {"type": "object", "patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
            {"a" * 40 + "!": 1},
            True,
        ),
        ({"$ref": "#/$defs/r", "$defs": {"r": {"$ref": "#/$defs/r"}}}, {}, True),
        (None, {"anything": 1}, True),
        ({"type": "object", "properties": {"n": {"type": "integer", "maximum": 3}}}, {"n": 4}, False),
    ],
)
def test_arguments_are_judged_by_their_schema(schema: object, arguments: object, fits: bool) -> None:
    table = tools.ToolTable([{"type": "function", "function": {"name": "f", "parameters": schema}}])
    gatherer = tools.CallGatherer()
    gatherer.take([ToolPiece(name="f", arguments=msgspec.json.encode(arguments).decode())])
    assert (table.problem(gatherer.calls("c")) is None) == fits


def test_the_key_is_taken_out_whole_and_in_part(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-abcdefghijklmnopqrstuvwxyz\n")
    key = Key(file)
    assert key.redact("before sk-abcdefghijklmnopqrstuvwxyz after") == f"before {MASK} after".replace(MASK, MASK)
    assert "abcdef" not in key.redact("starts with sk-abcdefgh***")
    assert key.redact("nothing of it") == "nothing of it"
    assert "abc" not in repr(key)
    assert Key(None).headers() == {}
    file.write_text("two words")
    with pytest.raises(BadInput) as failure:
        Key(file)
    assert "two words" not in str(failure.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("https://h/v1/", "https://h/v1"),
        ("https://h/openai/v1", "https://h/openai/v1"),
    ],
)
def test_urls(text: str, url: str) -> None:
    assert base_url(text) == url


@pytest.mark.parametrize("text", ["", "h:1", "ftp://h", "http://", "http://user:secret@h", "https://h/v1?key=secret"])
def test_urls_that_are_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(BadInput) as failure:
        base_url(text)
    assert "secret" not in str(failure.value)


def test_a_table_of_several(tmp_path: Path) -> None:
    table = tmp_path / "endpoints.json"
    rows = '[{"url": "http://a:1", "model": "one", "key_file": "a.key"}, {"url": "http://b:2/v1", "lacks": ["video"]}]'
    table.write_text(rows)
    first, second = endpoints(UpstreamConfig(table_file=table))
    assert (first.model, first.url, first.key_file) == ("one", "http://a:1/v1", tmp_path / "a.key")
    announced = metadata(second, "two")
    assert (announced["capabilities"], announced["video"]) == ("image,tools,tool_choice,response_format", "false")
    for bad in (
        "[]",
        "{}",
        '[{"url": "http://a", "key_file": 5}]',
        '[{"url": "http://a", "kee_file": "x"}]',
        '[{"url": "http://a", "max_frames": 0}]',
    ):
        table.write_text(bad)
        with pytest.raises(BadInput):
            endpoints(UpstreamConfig(table_file=table))
    with pytest.raises(BadInput):
        check_names(["Kimi K2.6", "kimi-k2-6"])


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\x89PNG....", "image/png"),
        (b"GIF89a", "image/gif"),
        (b"....ftypqt  ", "video/quicktime"),
        (b"....ftypisom", "video/mp4"),
        (b"\x1a\x45\xdf\xa3....webm", "video/webm"),
        (b"\x1a\x45\xdf\xa3....matroska", "video/x-matroska"),
        (b"RIFF....AVI ", "video/x-msvideo"),
    ],
)
def test_media_types(start: bytes, name: str) -> None:
    assert media_type(start, "image" if name.startswith("image") else "video") == name
