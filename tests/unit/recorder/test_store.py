"""Spans survive on disk, once each, and within the bounds."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.telemetry import ATTR_REQUEST_ID, ATTR_RUN_ID
from services.recorder.store import SpanStore
from shared.errors import Unavailable

from .messages import SECOND, TRACE, beat, ended, started


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "of recorder" / "spans%20.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SpanStore]:
    store = SpanStore.open(path)
    yield store
    store.close()


def test_messages_in_any_order_and_twice_leave_the_same(tmp_path: Path) -> None:
    messages = [started("a"), beat(at=1), started("b", "a"), ended("b", "a", until=4), ended("a"), beat(at=5)]
    seen = set()
    for number in range(10):
        shuffled = messages * 2
        random.Random(number).shuffle(shuffled)
        store = SpanStore.open(tmp_path / f"{number}.sqlite")
        for first in range(0, len(shuffled), 4):
            store.write(shuffled[first : first + 4], heard=7)
        kept = sorted(store.messages(TRACE), key=lambda message: message.span_id)
        seen.add(repr((kept, store.instances(["engine-1"]))))
        store.close()
    assert len(seen) == 1
    assert "SpanStarted" not in seen.pop()


def test_found_by_trace_id_and_by_request_id(store: SpanStore) -> None:
    first, second = "1" * 32, "2" * 32
    store.write([started("a", trace=first, attributes={ATTR_REQUEST_ID: "req-1"})], heard=1)
    store.write([started("b", trace=second, attributes={ATTR_REQUEST_ID: "req-1"})], heard=2)
    store.write([started("c", trace=second, attributes={ATTR_REQUEST_ID: "req-2"})], heard=3)
    assert [store.find(id) for id in (first, "req-1", "req-2", "req-3")] == [first, second, second, None]


def test_found_by_run_id(store: SpanStore) -> None:
    """Also where the span is of a request of its own within the run."""
    store.write([started("a", attributes={ATTR_RUN_ID: "run-1", ATTR_REQUEST_ID: "req-1"})], heard=1)
    assert store.find("run-1") == store.find("req-1") == TRACE


def test_an_instance_is_known_by_its_newest_sign(store: SpanStore) -> None:
    store.write([beat(at=5)], heard=50)
    store.write([beat(at=3)], heard=60)  # redelivered: says nothing about now
    (state,) = store.instances(["engine-1"]).values()
    assert (state.last_sign_unix_nanoseconds, state.heard_unix_nanoseconds, state.ending) == (5 * SECOND, 50, False)
    store.write([beat(at=6, ending=True)], heard=70)
    store.write([ended("a", until=7)], heard=80)
    (state,) = store.instances(["engine-1"]).values()
    assert (state.last_sign_unix_nanoseconds, state.heard_unix_nanoseconds, state.ending) == (7 * SECOND, 80, True)


def test_what_is_written_is_there_after_a_restart_and_for_readers(path: Path, store: SpanStore) -> None:
    store.write([ended("a")], heard=1)
    beside = SpanStore.open_read_only(path)
    assert beside.messages(TRACE) == [ended("a")]
    with pytest.raises(Unavailable):
        beside.write([ended("b")], heard=1)
    beside.close()
    store.close()
    again = SpanStore.open(path)
    assert again.messages(TRACE) == [ended("a")]
    again.close()


def test_old_traces_go_by_age(store: SpanStore) -> None:
    for number in range(10):
        request = {ATTR_REQUEST_ID: f"req-{number}"}
        store.write([ended("a", trace=f"{number:032}", instance=f"i-{number}", attributes=request)], heard=number)
    assert store.trim(max_bytes=2**30, heard_before=6) == 6
    assert [store.find(f"req-{number}") is None for number in range(10)] == [True] * 6 + [False] * 4
    assert set(store.instances(f"i-{number}" for number in range(10))) == {"i-6", "i-7", "i-8", "i-9"}
    assert store.trim(max_bytes=2**30, heard_before=6) == 0


def test_the_oldest_traces_go_by_bytes_and_the_file_shrinks(path: Path, store: SpanStore) -> None:
    blob = {"text": "x" * 2000}
    for number in range(600):
        store.write([ended("a", trace=f"{number:032}", attributes=blob)], heard=number)
    assert store.size_bytes() > 1_000_000
    assert store.trim(max_bytes=500_000, heard_before=0) > 300
    assert store.size_bytes() <= 500_000
    assert store.find(f"{599:032}")
    assert store.find(f"{0:032}") is None
    store.close()
    assert path.stat().st_size <= 600_000


@pytest.mark.parametrize("content", [b"this is not a database" * 100, None])
def test_a_file_that_is_no_database_is_our_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "spans.sqlite"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    for opened in (SpanStore.open, SpanStore.open_read_only):
        with pytest.raises(Unavailable) as raised:
            opened(path)
        assert raised.value.code == "recorder.database"


def test_a_missing_file_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        SpanStore.open_read_only(tmp_path / "missing.sqlite")
    assert not list(tmp_path.iterdir())
