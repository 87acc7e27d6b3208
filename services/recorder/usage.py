"""What keys were charged with, by day, key, model and process: sums in SQLite that outlive the spans they come from.

Input: span messages, inside the store's transaction, before they are written. Output: rows of usage. A span counts
once, however often it arrives. It must not know limits or prices.
"""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime

from schemas import codec
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
    SpanStarted,
    UsageListed,
    UsageQuery,
    UsageRow,
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    day TEXT NOT NULL, tenant TEXT NOT NULL, key_id TEXT NOT NULL, model TEXT NOT NULL, instance TEXT NOT NULL,
    requests INTEGER NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL, PRIMARY KEY (day, tenant, key_id, model, instance)) WITHOUT ROWID;
"""
COUNT = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?) ON CONFLICT DO UPDATE SET requests = requests + 1,
input_tokens = input_tokens + excluded.input_tokens, output_tokens = output_tokens + excluded.output_tokens,
cached_tokens = cached_tokens + excluded.cached_tokens
"""
READ = """
SELECT day, tenant, key_id, model, sum(requests), sum(input_tokens), sum(output_tokens), sum(cached_tokens) FROM usage
WHERE day BETWEEN :first AND :last AND instance != :without AND (:tenant = '' OR tenant = :tenant)
GROUP BY day, tenant, key_id, model ORDER BY day, tenant, key_id, model
"""
ENDED = "SELECT ended FROM spans WHERE trace_id = ? AND span_id = ?"


def count(connection: sqlite3.Connection, spans: Sequence[SpanStarted | SpanEnded]) -> None:
    charged = {(span.trace_id, span.span_id): span for span in spans if isinstance(span, SpanEnded) and _counts(span)}
    for place, span in charged.items():
        known = connection.execute(ENDED, place).fetchone()
        if known is None or not known[0]:
            connection.execute(COUNT, _row(span))


def read(connection: sqlite3.Connection, query: UsageQuery, max_bytes: int) -> UsageListed:
    """Of the principal's tenant; of all for the local principal."""
    values = {
        "first": query.first_day,
        "last": query.last_day,
        "without": query.without_instance,
        "tenant": "" if query.principal.tenant == Principal().tenant else query.principal.tenant,
    }
    rows: list[UsageRow] = []
    omitted = 0
    for found in connection.execute(READ, values):
        row = UsageRow(**dict(zip(UsageRow.__struct_fields__, found, strict=True)))
        max_bytes -= len(codec.encode(row))
        if max_bytes >= 0:
            rows.append(row)
        else:
            omitted += 1
    return UsageListed(rows=tuple(rows), omitted_rows=omitted)


def forget(connection: sqlite3.Connection, before_unix_nanoseconds: int) -> None:
    connection.execute("DELETE FROM usage WHERE day < ?", (day_of(before_unix_nanoseconds),))


def day_of(unix_nanoseconds: int) -> str:
    """``YYYY-MM-DD`` in UTC."""
    return datetime.fromtimestamp(unix_nanoseconds // 10**9, UTC).date().isoformat()


def _counts(span: SpanEnded) -> bool:
    return span.attributes.get(ATTR_USAGE_COUNTS) is True


def _row(span: SpanEnded) -> tuple[str | int, ...]:
    def text(name: str) -> str:
        return str(span.attributes.get(name, ""))

    def number(name: str) -> int:
        value = span.attributes.get(name, 0)
        return value if isinstance(value, int) and value >= 0 else 0

    who = (text(ATTR_TENANT), text(ATTR_KEY_ID), text(ATTR_MODEL), span.instance)
    tokens = (number(ATTR_INPUT_TOKENS), number(ATTR_OUTPUT_TOKENS), number(ATTR_CACHED_TOKENS))
    return (day_of(span.end_unix_nanoseconds), *who, *tokens)


def checked(query: UsageQuery) -> UsageQuery:
    """Raises ValueError when a day is none."""
    for day in (query.first_day, query.last_day):
        if datetime.strptime(day, "%Y-%m-%d").date().isoformat() != day:
            raise ValueError(day)
    return query
