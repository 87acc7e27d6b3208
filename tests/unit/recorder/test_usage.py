"""Usage is counted once, by day and key, outlives the spans, and is answered to its tenant only."""

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import codec
from schemas.failure import Failure
from schemas.request import Principal
from schemas.telemetry import (
    ATTR_CACHED_TOKENS,
    ATTR_INPUT_TOKENS,
    ATTR_KEY_ID,
    ATTR_MODEL,
    ATTR_OUTPUT_TOKENS,
    ATTR_TENANT,
    ATTR_USAGE_COUNTS,
    SpanEnded,
    UsageListed,
    UsageQuery,
    UsageRow,
)
from services.recorder.handlers import MAX_REPLY_BYTES, answer_usage
from services.recorder.store import SpanStore

from .messages import SECOND, ended, started

DAY = 24 * 3600
TODAY, TOMORROW = "1970-01-01", "1970-01-02"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SpanStore]:
    store = SpanStore.open(tmp_path / "spans.sqlite")
    yield store
    store.close()


def charged(
    span: str, tenant: str = "acme", key: str = "k1", *, until: float = 1.0, counts: bool = True, **fields: Any
) -> SpanEnded:
    attributes: dict[str, Any] = {
        ATTR_TENANT: tenant,
        ATTR_KEY_ID: key,
        ATTR_MODEL: "m",
        ATTR_INPUT_TOKENS: 10,
        ATTR_OUTPUT_TOKENS: 3,
        ATTR_CACHED_TOKENS: 4,
    }
    return ended(span, until=until, attributes=attributes | ({ATTR_USAGE_COUNTS: True} if counts else {}), **fields)


def row(day: str = TODAY, tenant: str = "acme", key: str = "k1", requests: int = 1) -> UsageRow:
    tokens = {"input_tokens": 10 * requests, "output_tokens": 3 * requests, "cached_tokens": 4 * requests}
    return UsageRow(day=day, tenant=tenant, key_id=key, model="m", requests=requests, **tokens)


async def asked(store: SpanStore, tenant: str = "local", last: str = TOMORROW, without: str = "") -> UsageListed:
    query = UsageQuery(principal=Principal(tenant=tenant), first_day=TODAY, last_day=last, without_instance=without)
    return codec.decode(await answer_usage(store, codec.encode(query)), UsageListed)


@pytest.mark.parametrize("seed", range(10))
async def test_a_span_counts_once_in_whatever_order_it_comes(store: SpanStore, seed: int) -> None:
    messages = [charged("a"), charged("b"), charged("c", key="k2"), charged("d", counts=False), charged("e", "other")]
    messages += [charged("a", trace="b" * 32)]
    arriving = [*(started(message.span_id) for message in messages), *messages, *messages]
    random.Random(seed).shuffle(arriving)
    for first in range(0, len(arriving), 3):
        store.write(arriving[first : first + 3], heard=1)
    assert (await asked(store)).rows == (row(requests=3), row(key="k2"), row(tenant="other"))
    assert (await asked(store, "acme")).rows == (row(requests=3), row(key="k2"))
    assert (await asked(store, "other")).rows == (row(tenant="other"),)
    assert (await asked(store, "nobody")).rows == ()


async def test_days_and_instances_are_told_apart(store: SpanStore) -> None:
    store.write([charged("a"), charged("b", until=DAY), charged("c", instance="gateway-2")], heard=1)
    assert (await asked(store)).rows == (row(requests=2), row(day=TOMORROW))
    assert (await asked(store, last=TODAY)).rows == (row(requests=2),)
    assert (await asked(store, without="gateway-2")).rows == (row(), row(day=TOMORROW))


async def test_usage_outlives_its_spans_and_has_an_end(store: SpanStore) -> None:
    store.write([charged("a"), charged("b", until=DAY)], heard=1)
    store.trim(0, 2)
    assert store.find("a" * 32) is None
    assert (await asked(store)).rows == (row(), row(day=TOMORROW))
    store.trim(1 << 30, 0, DAY * SECOND)
    assert (await asked(store)).rows == (row(day=TOMORROW),)


async def test_an_answer_fits_into_one_message(store: SpanStore) -> None:
    store.write([charged(f"s{n}", key=f"key-{n:05d}" + "x" * 60) for n in range(6000)], heard=1)
    listed = await asked(store)
    assert len(codec.encode(listed)) <= MAX_REPLY_BYTES + 64
    assert len(listed.rows) + listed.omitted_rows == 6000
    assert listed.omitted_rows > 0


@pytest.mark.parametrize("day", ["", "2026-1-1", "today", "2026-02-30"])
async def test_what_is_no_day_is_refused(store: SpanStore, day: str) -> None:
    for query in (UsageQuery(first_day=day, last_day=TODAY), UsageQuery(first_day=TODAY, last_day=day)):
        failure = codec.decode(await answer_usage(store, codec.encode(query)), Failure)
        assert (failure.code, failure.status) == ("usage.query", 400)
    assert codec.decode(await answer_usage(store, b"\xc1"), Failure).status == 400


def test_a_database_from_before_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "spans.sqlite"
    SpanStore.open(path).close()
    with sqlite3.connect(path) as old:
        old.executescript("ALTER TABLE spans DROP COLUMN tenant; DROP TABLE usage; PRAGMA user_version = 1;")
        row = ("a" * 32, "old", 1, codec.encode(ended("old")))
        old.execute("INSERT INTO spans VALUES (?, ?, ?, ?)", row)
        old.execute("INSERT INTO traces VALUES (?, 1)", ("a" * 32,))
    old.close()
    reader = SpanStore.open_read_only(path)
    assert reader.messages("a" * 32) == [ended("old")]
    reader.close()
    for _ in range(2):
        store = SpanStore.open(path)
        store.write([charged("new")], heard=2)
        assert [message.span_id for message in store.messages("a" * 32)] == ["old", "new"]
        assert [message.span_id for message in store.messages("a" * 32, "acme")] == ["new"]
        store.close()
