"""Ledgers in their streams: accept a run, read its entries, append to it as its owner.

In: events. Out: numbered entries, and ``Fenced`` for whoever has lost the run to another owner. An append expects the
last sequence that its writer knows, so that of two owners one can go on; after an unknown acknowledgement the tail is
read: own entry there means success, another means fenced. It must not know models, tools or why a run is taken.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

import msgspec

from schemas import codec, names
from schemas.runs import LedgerEntry, NumberedEntry, RunAccepted, RunEvent, RunOrigin
from shared.bus.interface import Bus, StoredMessage
from shared.clock import Clock
from shared.errors import BadInput, Internal, MoontideError, NotFound, Unavailable
from shared.ledger.state import RunState, begin, replay, through_step

log = logging.getLogger(__name__)

PARTITION_BYTES = 1024**3
READ_ENTRIES = 500
UNKNOWN_SECONDS = 60.0
"""How long an append is repeated whose outcome nobody tells; then its writer gives up the run."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
MAX_EMPTY_READS = 50
"""In a row, of a ledger that has more: its replica does not catch up, or it was just removed."""
MAX_FORKS = 64
"""Of a fork of a fork of …"""


class Fenced(Unavailable):
    """Another owner has the run: code ``ledger.fenced``. Whoever gets this drops the run at once."""

    def __init__(self, run_id: str) -> None:
        super().__init__("ledger.fenced", f"another owner has taken {run_id}")


class LedgerWriter:
    """Appends of one owner in one term, one after the other. After ``Fenced``, an unknown outcome or a cancelled
    append it appends nothing more: whoever wants to go on takes the run again."""

    def __init__(self, bus: Bus, clock: Clock, run_id: str, owner: str, term: int, last_sequence: int) -> None:
        self._bus = bus
        self._clock = clock
        self._subject = ledger_subject(run_id)
        self._run_id = run_id
        self._owner = owner
        self._term = term
        self._last_sequence = last_sequence
        self._turn = asyncio.Lock()
        self._closed = False

    @property
    def last_sequence(self) -> int:
        return self._last_sequence

    async def append(self, events: Iterable[RunEvent]) -> NumberedEntry:
        """All of them, in this order, or none. Raises Fenced; Unavailable when the outcome stayed unknown for
        ``UNKNOWN_SECONDS``; BadInput when the entry is larger than a message."""
        async with self._turn:
            if self._closed:
                raise Fenced(self._run_id)
            entry = self._entry(tuple(events))
            self._closed = True  # until the outcome is known, whatever ends the wait
            try:
                sequence = await self._store(entry)
            except BadInput:
                self._closed = False  # it was never sent
                raise
            if sequence is None:
                raise Fenced(self._run_id)
            self._last_sequence = sequence
            self._closed = False
            return NumberedEntry(sequence=sequence, entry=entry)

    def _entry(self, events: tuple[RunEvent, ...]) -> LedgerEntry:
        return LedgerEntry(
            entry_id=secrets.token_hex(8),
            run_id=self._run_id,
            owner=self._owner,
            term=self._term,
            time_unix_seconds=self._clock.unix_seconds(),
            events=events,
        )

    def expected(self) -> int | None:
        """The sequence that the server is told to expect. A test that breaks fencing answers None here."""
        return self._last_sequence

    async def _store(self, entry: LedgerEntry) -> int | None:
        """None: fenced. Repeated until the outcome is known: the expectation makes that safe."""
        data = codec.encode(entry)
        end = self._clock.monotonic_seconds() + UNKNOWN_SECONDS
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._bus.append_at(
                    self._subject, data, message_id=entry.entry_id, expected_last_sequence=self.expected()
                )
            except BadInput:
                raise
            except MoontideError as error:
                if self._clock.monotonic_seconds() > end:
                    raise
                log.warning("append not known yet", extra={"run_id": self._run_id, "code": error.code})
            await self._clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


class Ledger:
    """``writer`` is what ``writer`` makes: a test may break one."""

    def __init__(self, bus: Bus, clock: Clock, writer: type[LedgerWriter] = LedgerWriter) -> None:
        self._bus = bus
        self._clock = clock
        self._writer = writer

    async def declare(self, partition_bytes: int = PARTITION_BYTES) -> None:
        """The streams. Whoever wants to append or read declares them first; as often as wanted."""
        for partition in range(names.LEDGER_PARTITIONS):
            await self._bus.declare_journal(
                names.ledger_stream(partition), (names.ledger_all(partition),), max_bytes=partition_bytes
            )

    async def accept(self, entry: LedgerEntry) -> NumberedEntry:
        """The first entry of a run, once: where there is one already, that one is returned. Raises Busy when the
        ledgers are full, Unavailable when the outcome is not known (then the same call may be made again)."""
        if len(entry.events) != 1 or not isinstance(entry.events[0], RunAccepted) or entry.term != 0:
            raise Internal("ledger.not_accepted", "a ledger begins with the acceptance of its run")
        sequence = await self._bus.append_at(
            ledger_subject(entry.run_id), codec.encode(entry), message_id=entry.entry_id, expected_last_sequence=0
        )
        if sequence is not None:
            return NumberedEntry(sequence=sequence, entry=entry)
        return await self.first(entry.run_id)

    def writer(self, run_id: str, owner: str, term: int, last_sequence: int) -> LedgerWriter:
        """Its first append is ``LeaseTaken`` of this owner and term; ``last_sequence`` is that of the state which the
        owner has replayed."""
        return self._writer(self._bus, self._clock, run_id, owner, term, last_sequence)

    async def read(self, run_id: str, after_sequence: int = 0, limit: int = READ_ENTRIES) -> list[NumberedEntry]:
        """Up to ``limit`` entries behind a sequence; none when there are no more. Raises NotFound (``run.not_found``)
        for an unknown run."""
        messages = await self._bus.read_log(
            ledger_stream(run_id), ledger_subject(run_id), after_sequence=after_sequence, limit=limit
        )
        if not messages and after_sequence == 0:
            await self._last_sequence(run_id)
        return [decoded(message) for message in messages]

    async def first(self, run_id: str) -> NumberedEntry:
        """How the run was accepted. Raises NotFound."""
        async with aclosing(self.entries(run_id, limit=1)) as entries:
            async for numbered in entries:
                return numbered
        raise not_found(run_id)

    async def entries(self, run_id: str, limit: int = READ_ENTRIES) -> AsyncGenerator[NumberedEntry, None]:
        """All, oldest first, up to the last one that the stream's leader has when this begins, ``limit`` at once.
        Raises NotFound."""
        last = await self._last_sequence(run_id)
        after, empty = 0, 0
        while after < last:
            batch = await self.read(run_id, after_sequence=after, limit=limit)
            for numbered in batch:
                yield numbered
            if batch:
                after, empty = batch[-1].sequence, 0
            elif (empty := empty + 1) > MAX_EMPTY_READS:
                raise Unavailable("ledger.behind", f"not all of {run_id} can be read at the moment")
            else:
                await self._clock.sleep(FIRST_PAUSE_SECONDS)  # a replica that lags behind its leader

    async def _last_sequence(self, run_id: str) -> int:
        """As the stream's leader has it. Raises NotFound."""
        last = await self._bus.last_of(ledger_stream(run_id), ledger_subject(run_id))
        if last is None:
            raise not_found(run_id)
        return last.sequence

    async def state(self, run_id: str) -> RunState:
        """Replayed from the first entry, and for a fork from its origin's. Raises NotFound, IllegalTransition."""
        return await self._state(run_id, None, MAX_FORKS)

    async def past(self, origin: RunOrigin) -> RunState:
        """What a fork begins with. Raises NotFound; BadInput (``run.step_incomplete``) when the run has not got so
        far, or is in the middle of the step."""
        return await self._state(origin.run_id, origin.step, MAX_FORKS)

    async def catch_up(self, state: RunState) -> list[NumberedEntry]:
        """Applies what was appended since, and returns it."""
        new: list[NumberedEntry] = []
        while batch := await self.read(state.run_id, after_sequence=state.last_sequence):
            for numbered in batch:
                state.apply(numbered)
            new += batch
        return new

    async def _state(self, run_id: str, step: int | None, forks: int) -> RunState:
        """``step``: as it was when that one was complete."""
        if forks == 0:
            raise Internal("ledger.too_many_forks", f"a run has more than {MAX_FORKS} origins")
        entries = [numbered async for numbered in self.entries(run_id)]
        origin = begin(entries[0]).origin
        if origin is not None and step is not None and step < origin.step:
            return await self._state(origin.run_id, step, forks - 1)
        past = await self._state(origin.run_id, origin.step, forks - 1) if origin is not None else None
        if step is None:
            return replay(entries, past)
        state = replay(through_step(entries, step), past)
        if state.step != step or not state.place.at_rest:
            raise BadInput("run.step_incomplete", f"step {step} of {run_id} is not complete", param="origin")
        return state

    async def run_ids(self) -> list[str]:
        """Of every ledger, sorted: that is by age."""
        found: list[str] = []
        for partition in range(names.LEDGER_PARTITIONS):
            stream, pattern = names.ledger_stream(partition), names.ledger_all(partition)
            found += [run_of(subject) for subject in await self._bus.subjects_of(stream, pattern)]
        return sorted(found)

    async def last_entries(self, run_ids: Iterable[str]) -> dict[str, NumberedEntry]:
        """The last entry of each run that there is; one that cannot be read is left out."""
        wanted: dict[str, list[str]] = {}
        for run_id in run_ids:
            wanted.setdefault(ledger_stream(run_id), []).append(ledger_subject(run_id))
        found: dict[str, NumberedEntry] = {}
        for stream, subjects in wanted.items():
            for message in await self._bus.read_last(stream, subjects):
                try:
                    found[run_of(message.subject)] = decoded(message)
                except Internal as error:
                    log.warning("ledger unreadable", extra={"subject": message.subject, "code": error.code})
        return found

    async def runs(self) -> dict[str, NumberedEntry]:
        """Every run and its last entry, by age."""
        run_ids = await self.run_ids()
        last = await self.last_entries(run_ids)
        return {run_id: last[run_id] for run_id in run_ids if run_id in last}

    async def forget(self, run_id: str) -> None:
        """Remove a ledger. For runs that ended long ago."""
        await self._bus.purge(ledger_stream(run_id), ledger_subject(run_id))


def ledger_subject(run_id: str) -> str:
    return names.ledger(names.ledger_partition(run_id), run_id)


def ledger_stream(run_id: str) -> str:
    return names.ledger_stream(names.ledger_partition(run_id))


def run_of(subject: str) -> str:
    """The last token of a subject that ends in a run id."""
    return subject.rsplit(".", 1)[-1]


def decoded(message: StoredMessage) -> NumberedEntry:
    """Raises Internal (``ledger.unreadable``)."""
    try:
        return NumberedEntry(sequence=message.sequence, entry=codec.decode(message.data, LedgerEntry))
    except msgspec.MsgspecError as error:
        raise Internal("ledger.unreadable", f"{message.subject} holds what is no entry") from error


def not_found(run_id: str) -> NotFound:
    return NotFound("run.not_found", f"there is no run {run_id}", param="run_id")
