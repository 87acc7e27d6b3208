"""Expiry: how long each class of object lives after it was last written, and which objects are due.

Pure, apart from ``remove_abandoned``. What refers to blobs (records, derived results) must live shorter than blobs,
so that a reference that can still be found never points at nothing.
"""

import heapq
from collections.abc import Iterable
from pathlib import Path

import msgspec

COLLECT_MAX_OBJECTS = 10_000
"""Removed in one run at most; the oldest go first, so that runs make progress."""

_ABANDONED_SECONDS = 24 * 3600.0


class Lifetimes(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds since the last write. Writing an object again starts its life anew."""

    blob_seconds: float = 8 * 24 * 3600.0
    derived_seconds: float = 7 * 24 * 3600.0
    record_seconds: float = 7 * 24 * 3600.0

    def __post_init__(self) -> None:
        if self.blob_seconds <= max(self.derived_seconds, self.record_seconds):
            raise ValueError("blob_seconds must be greater than derived_seconds and record_seconds")


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    size_bytes: int
    written_unix_seconds: float


class CollectReport(msgspec.Struct, frozen=True, kw_only=True):
    removed: int
    freed_bytes: int
    more: bool
    """Whether the limit was reached and expired objects are left."""


def expired(objects: Iterable[StoredObject], before_unix_seconds: float, limit: int) -> list[StoredObject]:
    """At most ``limit`` objects written before the given time, oldest first."""
    due = (item for item in objects if item.written_unix_seconds < before_unix_seconds)
    return heapq.nsmallest(limit, due, key=lambda item: (item.written_unix_seconds, item.path))


def remove_abandoned(root: Path, now_unix_seconds: float) -> int:
    """Unlinks what writers that were killed left behind (obstore stages as ``<name>#<n>``); returns how many."""
    removed = 0
    for path in root.rglob("*#*"):
        if path.is_file() and path.stat().st_mtime < now_unix_seconds - _ABANDONED_SECONDS:
            path.unlink(missing_ok=True)
            removed += 1
    return removed
