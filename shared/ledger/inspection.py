"""The audit's eyes: reads what streams and blob store hold, and has it judged.

In: a bus and, where it is at hand, the blob store. Out: a ``Report`` of what was looked at and every violation. Changes
nothing. Judging is done in ``audit.py`` and ``audit_records.py``.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator

import msgspec

from schemas import codec, names
from schemas.blobs import BlobRef
from schemas.events import CloudEvent, HolderAnswered, HolderQuery
from schemas.runs import NumberedEntry
from schemas.tools import WorkspaceTree
from shared.blobs.store import BlobStore
from shared.bus.interface import Bus
from shared.clock import Clock
from shared.errors import Internal, MoontideError, NotFound
from shared.ledger.audit import Finding, references, run_findings
from shared.ledger.audit_records import Records, outcome_of, record_findings, unattended_findings
from shared.ledger.journal import decoded, ledger_stream, ledger_subject, run_of
from shared.ledger.leases import Leases

log = logging.getLogger(__name__)

GRACE_SECONDS = 30.0
PAGE = 500
ASK_SECONDS = 2.0
BLOBS_AT_ONCE = 32
BLOBS_LIVE_SECONDS = 7 * 24 * 3600.0
"""What a run that has ended pointed to longer ago may have been collected."""
MAX_TREE_BYTES = 64 * 1024 * 1024


class Report(msgspec.Struct, frozen=True, kw_only=True):
    runs: int
    entries: int
    requests: int
    """Ids in the events log, runs included."""
    blobs: int
    """Checked; 0 where the blob store was not at hand."""
    findings: tuple[Finding, ...]


class Inspection:
    """``live``: services run, so that open work has a holder. ``grace_seconds``: what is younger is not judged where a
    moment lies between two writes."""

    def __init__(
        self, bus: Bus, clock: Clock, blobs: BlobStore | None, *, live: bool, grace_seconds: float = GRACE_SECONDS
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._blobs = blobs
        self._live = live
        self._grace_seconds = grace_seconds
        self._findings: list[Finding] = []
        self._entries = 0
        self._references: dict[BlobRef, str] = {}

    async def report(self) -> Report:
        """Raises Unavailable when the bus cannot be read."""
        before = self._clock.unix_seconds() - self._grace_seconds
        records = await self._records()
        runs = await self._runs()
        held = await self._held(records)
        again = await self._records() if held != set(records.open_chats()) else records
        self._findings += record_findings(again, runs, held, before)
        if self._live and runs:
            self._findings += unattended_findings(runs, await self._attended(), before)
        await self._check_blobs()
        return Report(
            runs=len(runs),
            entries=self._entries,
            requests=len(records.by_id),
            blobs=len(self._references) if self._blobs is not None else 0,
            findings=tuple(self._findings),
        )

    async def _records(self) -> Records:
        """Of the events log; none when there is no such log yet."""
        records = Records()
        try:
            records.whole = await self._bus.first_sequence(names.STREAM_EVENTS) <= 1
        except NotFound:
            return records
        after = 0
        while page := await self._bus.read_log(names.STREAM_EVENTS, names.EVENTS_ALL, after_sequence=after, limit=PAGE):
            for message in page:
                try:
                    records.take(codec.decode_json(message.data, CloudEvent), message.time_unix_seconds)
                except msgspec.MsgspecError:
                    log.info("event of another sort skipped", extra={"subject": message.subject})
            after = page[-1].sequence
        return records

    async def _runs(self) -> dict[str, NumberedEntry]:
        """Every run and its last entry; each ledger is judged on the way."""
        last: dict[str, NumberedEntry] = {}
        for partition in range(names.LEDGER_PARTITIONS):
            try:
                subjects = await self._bus.subjects_of(names.ledger_stream(partition), names.ledger_all(partition))
            except NotFound:
                continue
            for run_id in sorted(map(run_of, subjects)):
                if entries := await self._ledger(run_id):
                    last[run_id] = entries[-1]
        return last

    async def _ledger(self, run_id: str) -> list[NumberedEntry]:
        entries: list[NumberedEntry] = []
        after = 0
        while page := await self._bus.read_log(
            ledger_stream(run_id), ledger_subject(run_id), after_sequence=after, limit=PAGE
        ):
            for message in page:
                try:
                    entries.append(decoded(message))
                except Internal as error:
                    self._found("ledger.unreadable", run_id, error.message, message.sequence)
            after = page[-1].sequence
        self._entries += len(entries)
        self._findings += run_findings(run_id, entries)
        is_open = bool(entries) and not outcome_of(entries[-1])
        oldest = 0.0 if is_open else self._clock.unix_seconds() - BLOBS_LIVE_SECONDS
        for numbered in entries:
            if numbered.entry.time_unix_seconds > oldest:
                self._references |= dict.fromkeys(references(numbered.entry), run_id)
        if is_open:
            await self._open_workspace(run_id, entries)
        return entries

    async def _open_workspace(self, run_id: str, entries: list[NumberedEntry]) -> None:
        """What a run that goes on will need."""
        trees = [tree for tree in map(_workspace, reversed(_events(entries))) if tree is not None]
        if self._blobs is None or not trees or trees[0].size_bytes > MAX_TREE_BYTES:
            return
        try:
            tree = codec.decode(await self._blobs.get(trees[0]), WorkspaceTree)
        except (MoontideError, msgspec.MsgspecError):
            return  # found missing or damaged with the others
        files = (file.content for file in tree.files if not file.link)
        self._references |= dict.fromkeys(files, run_id)

    async def _held(self, records: Records) -> set[str]:
        """Open chats that their holders still have, or do not say: a slow answer is no violation."""
        by_holder: dict[str, list[str]] = {}
        for request_id, data in records.open_chats().items():
            by_holder.setdefault(data.holder, []).append(request_id)
        held: set[str] = set()
        for holder, request_ids in by_holder.items():
            for some in _chunks(request_ids):
                query = codec.encode(HolderQuery(request_ids=tuple(some)))
                try:
                    reply = await self._bus.request(names.holder(holder), query, ASK_SECONDS)
                    held.update(codec.decode(reply, HolderAnswered).held)
                except (MoontideError, msgspec.MsgspecError) as error:
                    gone = isinstance(error, MoontideError) and error.code == "bus.no_responder"
                    held.update(() if gone else some)
        return held

    async def _attended(self) -> set[str]:
        """Runs with an owner, or with a wake-up that waits."""
        leased = set(await Leases(self._bus, self._clock).holders())
        try:
            return leased | {run_of(name) for name in await self._bus.subjects_of(names.STREAM_RUNS, names.RUNS_ALL)}
        except NotFound:
            return leased

    async def _check_blobs(self) -> None:
        if self._blobs is None:
            return
        blobs, places = self._blobs, asyncio.Semaphore(BLOBS_AT_ONCE)

        async def check(ref: BlobRef, run_id: str) -> None:
            async with places:
                if not await blobs.exists(ref):
                    self._found("blob.missing", run_id, f"{ref.key} ({ref.size_bytes} bytes) is not in the blob store")

        await asyncio.gather(*(check(ref, run_id) for ref, run_id in self._references.items()))

    def _found(self, code: str, run_id: str, detail: str, sequence: int = 0) -> None:
        self._findings.append(Finding(code=code, id=run_id, detail=detail, sequence=sequence))


def _events(entries: list[NumberedEntry]) -> list[object]:
    return [event for numbered in entries for event in numbered.entry.events]


def _workspace(event: object) -> BlobRef | None:
    return getattr(event, "workspace", None)


def _chunks(ids: list[str], size: int = 1000) -> Iterator[Iterable[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))
