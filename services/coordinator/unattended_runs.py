"""Runs that nobody takes care of: woken, announced where that was forgotten, and removed long after their end.

In: ledgers, leases, waiting wake-ups. Out: ``RunWake``s, missing accepted and terminal records. Several coordinators do
the same at once, and nothing happens twice. It must not know what a run does.
"""

import logging
from dataclasses import dataclass

from schemas import codec, names
from schemas.events import RequestData
from schemas.runs import LedgerEntry, NumberedEntry, RunAccepted, RunEnded, RunWake
from services.coordinator.absences import Absences
from shared.bus.interface import Bus
from shared.clock import Clock
from shared.errors import Internal, NotFound
from shared.ledger.commands import CommandLog
from shared.ledger.journal import Ledger, run_of
from shared.ledger.leases import Leases
from shared.ledger.records import accepted_record, terminal_record
from shared.request_events import RequestEvents

log = logging.getLogger(__name__)

UNATTENDED_SECONDS = 1.5
LOOKS = 2
"""Behind a lease that has expired already, or was never there."""
MAX_GAP_SECONDS = 30.0
WAKE_SECONDS = 5.0
"""Several coordinators that wake a run within so long do it once."""
FIRST_ENTRIES = 200
"""Runs whose beginning is read in one scan."""
ANNOUNCE_SECONDS = 24 * 3600.0
"""Records of runs that ended longer ago are not looked for: they may have been discarded since."""
FORGET_RUNS = 20
"""Ledgers removed in one scan."""


@dataclass
class _Known:
    """How a run began."""

    accepted: RequestData | None
    """None: its ledger cannot be read."""
    origin: str | None
    announced: bool = False


class UnattendedRuns:
    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        *,
        ledger: Ledger,
        leases: Leases,
        commands: CommandLog,
        events: RequestEvents,
        keep_seconds: float,
    ) -> None:
        """``keep_seconds``: how long a ledger is kept behind its end."""
        self._bus = bus
        self._clock = clock
        self._ledger = ledger
        self._leases = leases
        self._commands = commands
        self._events = events
        self._keep_seconds = keep_seconds
        self._absences = Absences(UNATTENDED_SECONDS, LOOKS, MAX_GAP_SECONDS)
        self._known: dict[str, _Known] = {}
        self._ended: dict[str, float] = {}
        """When, of runs whose records are written."""

    def disturbed(self) -> None:
        self._absences.disturbed()

    async def scan(self) -> None:
        """Raises Unavailable: then the next scan goes on."""
        there = set(await self._ledger.run_ids())
        self._known = {run_id: known for run_id, known in self._known.items() if run_id in there}
        self._ended = {run_id: ended for run_id, ended in self._ended.items() if run_id in there}
        last = await self._ledger.last_entries(sorted(there - set(self._ended)))
        await self._wake({run_id: entry for run_id, entry in last.items() if not _is_end(entry)})
        await self._read_first(sorted(there - set(self._known)))
        await self._announce({run_id: entry for run_id, entry in last.items() if run_id in self._known})
        if there <= set(self._known):
            await self._forget()

    async def _wake(self, running: dict[str, NumberedEntry]) -> None:
        if not running:
            self._absences.disturbed()
            return
        attended = set(await self._leases.holders())
        waiting = {run_of(subject) for subject in await self._bus.subjects_of(names.STREAM_RUNS, names.RUNS_ALL)}
        missing = set(running) - attended - waiting
        for run_id in self._absences.look(self._clock.monotonic_seconds(), missing):
            window = int(self._clock.unix_seconds() / WAKE_SECONDS)
            message_id = f"{run_id}-{running[run_id].sequence}-{window}"
            await self._bus.enqueue(names.run_wake(run_id), codec.encode(RunWake(run_id=run_id)), message_id=message_id)
            self._absences.settled(run_id)
            log.warning("unattended run woken", extra={"run_id": run_id})

    async def _read_first(self, run_ids: list[str]) -> None:
        """How each run began. What cannot be read is the audit's: it must not stop the others."""
        for run_id in run_ids[:FIRST_ENTRIES]:
            try:
                first = (await self._ledger.first(run_id)).entry
                self._known[run_id] = _Known(accepted=accepted_record(first), origin=_origin(first))
            except NotFound:
                continue
            except Internal as error:
                self._known[run_id] = _Known(accepted=None, origin=None)
                log.error("ledger unreadable", extra={"run_id": run_id, "code": error.code})

    async def _announce(self, last: dict[str, NumberedEntry]) -> None:
        """Records that the run's owner did not come to write."""
        fresh = {run_id for run_id, entry in last.items() if _is_end(entry) or not self._known[run_id].announced}
        oldest = self._clock.unix_seconds() - ANNOUNCE_SECONDS
        recent = sorted(run_id for run_id in fresh if last[run_id].entry.time_unix_seconds > oldest)
        subjects = [subject(run_id) for run_id in recent for subject in (names.event_accepted, names.event_terminal)]
        written = {message.subject for message in await self._bus.read_last(names.STREAM_EVENTS, subjects)}
        for run_id in recent:
            await self._record(run_id, last[run_id], written)
        for run_id in fresh:
            self._known[run_id].announced = True
            if _is_end(last[run_id]):
                self._ended[run_id] = last[run_id].entry.time_unix_seconds

    async def _record(self, run_id: str, last: NumberedEntry, written: set[str]) -> None:
        accepted = self._known[run_id].accepted
        if accepted is None:
            return
        if names.event_accepted(run_id) not in written:
            await self._events.record_accepted(accepted)
        terminal = terminal_record(accepted, last.entry)
        if terminal is not None and names.event_terminal(run_id) not in written:
            await self._events.record_terminal(*terminal)

    async def _forget(self) -> None:
        """Runs that ended long ago, unless another one began from them."""
        oldest = self._clock.unix_seconds() - self._keep_seconds
        needed = {known.origin for known in self._known.values()}
        due = [run_id for run_id, ended in self._ended.items() if ended < oldest and run_id not in needed]
        for run_id in due[:FORGET_RUNS]:
            await self._commands.forget(run_id)
            await self._ledger.forget(run_id)
            log.info("old run removed", extra={"run_id": run_id})


def _is_end(last: NumberedEntry) -> bool:
    return bool(last.entry.events) and isinstance(last.entry.events[-1], RunEnded)


def _origin(first: LedgerEntry) -> str | None:
    accepted = first.events[0]
    return accepted.origin.run_id if isinstance(accepted, RunAccepted) and accepted.origin is not None else None
