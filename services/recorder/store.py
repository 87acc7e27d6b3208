"""Spans on disk, in SQLite: one row per span, safe to write twice, bounded by bytes and age; usage counted beside them.

Input: span messages as they arrive. Output: the messages of a trace, found by trace id or request id.
The edge to sqlite3: its errors become ours here. It must not know how messages become a tree, nor the bus.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from schemas import codec
from schemas.telemetry import (
    ATTR_REQUEST_ID,
    ATTR_RUN_ID,
    ATTR_TENANT,
    ProcessBeat,
    SpanEnded,
    SpanMessage,
    SpanStarted,
    UsageListed,
    UsageQuery,
)
from services.recorder import usage
from services.recorder.trace_tree import InstanceState, signs_of_life
from shared.errors import Unavailable

VERSION = 2
MAX_SPANS_READ = 20_000
TRACES_PER_DELETION = 64
BUSY_SECONDS = 5.0

SCHEMA = """
CREATE TABLE IF NOT EXISTS spans (
    trace_id TEXT NOT NULL, span_id TEXT NOT NULL, ended INTEGER NOT NULL, message BLOB NOT NULL,
    tenant TEXT NOT NULL DEFAULT '', PRIMARY KEY (trace_id, span_id));
CREATE TABLE IF NOT EXISTS traces (trace_id TEXT PRIMARY KEY, heard INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS traces_heard ON traces (heard);
CREATE TABLE IF NOT EXISTS requests (
    request_id TEXT NOT NULL, trace_id TEXT NOT NULL, PRIMARY KEY (request_id, trace_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_trace ON requests (trace_id);
CREATE TABLE IF NOT EXISTS instances (
    instance TEXT PRIMARY KEY, service TEXT NOT NULL, last_sign INTEGER NOT NULL, heard INTEGER NOT NULL,
    ending INTEGER NOT NULL) WITHOUT ROWID;
"""

FROM_VERSION_1 = "ALTER TABLE spans ADD COLUMN tenant TEXT NOT NULL DEFAULT '';"
"""Spans from then are of nobody: only the local principal sees them."""

WRITE_SPAN = """
INSERT INTO spans VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET ended = excluded.ended, message = excluded.message,
tenant = excluded.tenant WHERE excluded.ended > ended
"""
WRITE_TRACE = "INSERT INTO traces VALUES (?, ?) ON CONFLICT DO UPDATE SET heard = excluded.heard"
WRITE_REQUEST = "INSERT OR IGNORE INTO requests VALUES (?, ?)"
WRITE_INSTANCE = """
INSERT INTO instances VALUES (:instance, :service, :last_sign, :heard, coalesce(:ending, 0))
ON CONFLICT DO UPDATE SET last_sign = :last_sign, heard = :heard, ending = coalesce(:ending, ending)
WHERE :last_sign > last_sign
"""
FIND_TRACE = """
SELECT trace_id FROM traces WHERE trace_id = :id
UNION ALL
SELECT trace_id FROM (
    SELECT traces.trace_id FROM requests JOIN traces USING (trace_id) WHERE request_id = :id ORDER BY heard DESC)
LIMIT 1
"""


class SpanStore:
    """One connection behind a lock: any thread may call. Times are the recorder's, in Unix nanoseconds.

    Every method raises ``Unavailable`` (code ``recorder.database``) when SQLite cannot do its work.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """For writing; made when missing."""
        with _our_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = _connect(path.resolve().as_uri())
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")  # the log redelivers what a power cut takes
            found = _check_version(connection, 0, 1, VERSION)
            schema = SCHEMA + usage.SCHEMA + (FROM_VERSION_1 if found == 1 else "")
            connection.executescript(f"BEGIN; {schema} PRAGMA user_version = {VERSION}; COMMIT;")
        return cls(connection)

    @classmethod
    def open_read_only(cls, path: Path) -> Self:
        """Also beside a recorder that writes. The file has to exist."""
        with _our_errors():
            connection = _connect(f"{path.resolve().as_uri()}?mode=ro")
            _check_version(connection, 1, VERSION)
        return cls(connection)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def write(self, messages: Sequence[SpanMessage], heard: int) -> None:
        """All or nothing. Writing messages again, in any order, changes nothing."""
        spans = [message for message in messages if not isinstance(message, ProcessBeat)]
        with self._transaction() as connection:
            usage.count(connection, spans)
            connection.executemany(WRITE_SPAN, [_span_row(span) for span in spans])
            connection.executemany(WRITE_TRACE, [(trace_id, heard) for trace_id in {span.trace_id for span in spans}])
            connection.executemany(WRITE_REQUEST, {row for span in spans for row in _request_rows(span)})
            connection.executemany(WRITE_INSTANCE, _instance_rows(messages, heard))

    def find(self, id: str) -> str | None:
        """The trace of this trace id or request id (the newest, when a request id was used twice)."""
        with self._reading() as connection:
            row = connection.execute(FIND_TRACE, {"id": id}).fetchone()
        return row[0] if row else None

    def messages(self, trace_id: str, tenant: str | None = None) -> list[SpanStarted | SpanEnded]:
        """One message per span, at most ``MAX_SPANS_READ``, in order of arrival. ``tenant``: only its own: clients name
        the trace that their requests belong to, so two tenants may meet in one."""
        condition, values = ("", (trace_id,)) if tenant is None else ("AND tenant = ?", (trace_id, tenant))
        query = f"SELECT ended, message FROM spans WHERE trace_id = ? {condition} ORDER BY rowid LIMIT {MAX_SPANS_READ}"
        with self._reading() as connection:
            rows = connection.execute(query, values).fetchall()
        return [codec.decode(message, SpanEnded if ended else SpanStarted) for ended, message in rows]

    def instances(self, names: Iterable[str]) -> dict[str, InstanceState]:
        """What is known of these processes."""
        query = "SELECT last_sign, heard, ending FROM instances WHERE instance = ?"
        with self._reading() as connection:
            rows = {name: connection.execute(query, (name,)).fetchone() for name in names}
        return {
            name: InstanceState(last_sign_unix_nanoseconds=row[0], heard_unix_nanoseconds=row[1], ending=bool(row[2]))
            for name, row in rows.items()
            if row
        }

    def usage(self, query: UsageQuery, max_bytes: int) -> UsageListed:
        """As many rows as fit into ``max_bytes`` of msgpack."""
        with self._reading() as connection:
            return usage.read(connection, query, max_bytes)

    def size_bytes(self) -> int:
        """Bytes in use in the database file (without the write-ahead log)."""
        with self._reading() as connection:
            return _used_bytes(connection)

    def trim(self, max_bytes: int, heard_before: int, used_before: int = 0) -> int:
        """Delete what was last heard of before, then the oldest traces until the rest fits. Returns their number.
        Usage of whole days before ``used_before`` goes too."""
        with self._transaction() as connection:
            usage.forget(connection, used_before)
            old = connection.execute("SELECT trace_id FROM traces WHERE heard < ?", (heard_before,)).fetchall()
            _delete_traces(connection, old)
            connection.execute("DELETE FROM instances WHERE heard < ?", (heard_before,))
            deleted = len(old)
            while _used_bytes(connection) > max_bytes:
                query = "SELECT trace_id FROM traces ORDER BY heard LIMIT ?"
                oldest = connection.execute(query, (TRACES_PER_DELETION,)).fetchall()
                if not oldest:
                    break
                _delete_traces(connection, oldest)
                deleted += len(oldest)
        if deleted:
            with self._reading() as connection:
                connection.executescript("PRAGMA incremental_vacuum;")  # execute() would free one page only
        return deleted

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _our_errors():
            yield self._connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _our_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")


@contextmanager
def _our_errors() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise Unavailable("recorder.database", f"the span database cannot be used: {error}") from error


def _connect(uri: str) -> sqlite3.Connection:
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _check_version(connection: sqlite3.Connection, *accepted: int) -> int:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found not in accepted:
        connection.close()
        raise Unavailable("recorder.database_version", f"the span database has version {found}, expected {VERSION}")
    return found


def _span_row(span: SpanStarted | SpanEnded) -> tuple[str, str, int, bytes, str]:
    tenant = str(span.attributes.get(ATTR_TENANT, ""))
    return span.trace_id, span.span_id, int(isinstance(span, SpanEnded)), codec.encode(span), tenant


def _request_rows(span: SpanStarted | SpanEnded) -> list[tuple[str, str]]:
    """A trace is found by the ids of its requests and of its run."""
    ids = {span.attributes.get(name) for name in (ATTR_REQUEST_ID, ATTR_RUN_ID)}
    return [(found, span.trace_id) for found in ids if isinstance(found, str)]


def _instance_rows(messages: Sequence[SpanMessage], heard: int) -> list[dict[str, str | int | None]]:
    return [
        {
            "instance": instance,
            "service": sign.service,
            "last_sign": sign.unix_nanoseconds,
            "heard": heard,
            "ending": sign.ending,
        }
        for instance, sign in signs_of_life(messages).items()
    ]


def _delete_traces(connection: sqlite3.Connection, trace_ids: Sequence[tuple[str]]) -> None:
    for table in ("spans", "requests", "traces"):
        connection.executemany(f"DELETE FROM {table} WHERE trace_id = ?", trace_ids)


def _used_bytes(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
