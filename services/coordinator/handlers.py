"""What coordinators answer: submit a run, ask about runs, tell a run something. Any process answers for any run.

Input: requests on ``names.SUBJECT_RUN_*``. Output: replies, or a ``Failure``. What a reply says is durable before it is
sent. Runs of other tenants are not there. It must not know how runs are driven.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec

from schemas import names
from schemas.codec import decode, encode
from schemas.runs import (
    CommandStored,
    EntriesListed,
    EntriesQuery,
    LedgerEntry,
    NumberedEntry,
    RunAccepted,
    RunCommand,
    RunQuery,
    RunsListed,
    RunsQuery,
    RunSubmitted,
    RunSummary,
)
from schemas.telemetry import ATTR_RUN_ID, SPAN_SUBMIT_RUN
from services.coordinator.admission import check
from services.coordinator.book import RunBook
from services.coordinator.desk import Desk
from services.coordinator.queue import wake
from shared.bus.interface import RequestHandler
from shared.errors import BadInput, MoontideError, NotFound, internal_failure
from shared.ledger.records import accepted_record
from shared.ledger.state import begin
from shared.telemetry.request import request_attributes

log = logging.getLogger("coordinator")

MAX_RUNS_LISTED = 100
MAX_ENTRIES_LISTED = 256
MAX_REPLY_BYTES = 512 * 1024
"""Of the entries in one reply: below the broker's limit of one message."""
MAX_COMMAND_CHARACTERS = 4_000

T = TypeVar("T", bound=msgspec.Struct)


class Handlers:
    def __init__(self, desk: Desk, book: RunBook) -> None:
        self._desk = desk
        self._book = book

    def endpoints(self) -> Mapping[str, RequestHandler]:
        return {
            names.SUBJECT_RUN_SUBMIT: _answering(RunSubmitted, self.submit),
            names.SUBJECT_RUN_GET: _answering(RunQuery, self.get),
            names.SUBJECT_RUN_LIST: _answering(RunsQuery, self.list_runs),
            names.SUBJECT_RUN_ENTRIES: _answering(EntriesQuery, self.entries),
            names.SUBJECT_RUN_COMMAND: _answering(RunCommand, self.command),
        }

    async def submit(self, submitted: RunSubmitted) -> RunSummary:
        """Accepted once per run id, however often it is sent; a run of another tenant under that id is a refusal."""
        known = await self._known(submitted)
        if known is not None:
            return known
        await check(self._desk, submitted)
        entry = self._accepted(submitted)
        summary = begin(NumberedEntry(sequence=1, entry=entry)).summary()

        async def record() -> None:
            await self._desk.ledger.accept(entry)
            await self._desk.events.record_accepted(accepted_record(entry))
            await wake(self._desk.bus, submitted.run_id, f"accepted-{submitted.run_id}")

        async def nothing() -> None:
            """The reply follows."""

        await self._desk.order.confirmations(record, nothing)
        return summary

    async def get(self, query: RunQuery) -> RunSummary:
        return await self._summary(query.run_id, query.principal.tenant)

    async def list_runs(self, query: RunsQuery) -> RunsListed:
        found: list[RunSummary] = []
        limit = min(max(query.limit, 1), MAX_RUNS_LISTED)
        known = await self._desk.ledger.run_ids()
        wanted = [run_id for run_id in reversed(known) if not query.before or run_id < query.before]
        async for run_id in self._book.of_tenant(wanted, query.principal.tenant):
            summary = await self._book.summary(run_id, query.principal.tenant)
            if query.status is None or summary.status == query.status:
                found.append(summary)
            if len(found) > limit:
                break
        return RunsListed(runs=tuple(found[:limit]), more=len(found) > limit)

    async def entries(self, query: EntriesQuery) -> EntriesListed:
        await self._allow(query.run_id, query.principal.tenant)
        limit = min(max(query.limit, 1), MAX_ENTRIES_LISTED)
        read = await self._desk.ledger.read(query.run_id, query.after_sequence, limit + 1)
        kept = _within(read[:limit])
        return EntriesListed(entries=tuple(kept), more=len(kept) < len(read))

    async def command(self, command: RunCommand) -> CommandStored:
        summary = await self._summary(command.run_id, command.principal.tenant)
        if summary.status in ("finished", "failed", "cancelled"):
            raise BadInput("run.ended", f"the run has {summary.status}", param="run_id", status=409)
        _check_command(command)
        await self._desk.commands.store(command)
        return CommandStored(command_id=command.command_id)

    async def _known(self, submitted: RunSubmitted) -> RunSummary | None:
        try:
            tenant = await self._book.tenant(submitted.run_id)
        except NotFound:
            return None
        if tenant != submitted.context.principal.tenant:
            raise BadInput("run.id_taken", "this run id cannot be used", param="run_id", status=409)
        await wake(self._desk.bus, submitted.run_id, f"accepted-{submitted.run_id}")
        return await self._summary(submitted.run_id, tenant)

    def _accepted(self, submitted: RunSubmitted) -> LedgerEntry:
        """With a trace of its own where the sender has none: all owners' spans belong to it."""
        context = submitted.context
        attributes = request_attributes(context) | {ATTR_RUN_ID: submitted.run_id}
        span = self._desk.telemetry.span(
            SPAN_SUBMIT_RUN, parent=context.traceparent, kind="server", attributes=attributes
        )
        with span:
            traced = msgspec.structs.replace(context, traceparent=span.traceparent)
        return LedgerEntry(
            entry_id=f"accepted-{submitted.run_id}",
            run_id=submitted.run_id,
            owner=self._desk.bus.instance,
            term=0,
            time_unix_seconds=self._desk.clock.unix_seconds(),
            events=(RunAccepted(context=traced, spec=submitted.spec, origin=submitted.origin),),
        )

    async def _summary(self, run_id: str, tenant: str) -> RunSummary:
        _check_id(run_id)
        return await self._book.summary(run_id, tenant)

    async def _allow(self, run_id: str, tenant: str) -> None:
        _check_id(run_id)
        if await self._book.tenant(run_id) != tenant:
            raise _missing(run_id)


def _check_id(run_id: str) -> None:
    """What cannot be a run id is no run."""
    try:
        names.token(run_id)
    except ValueError:
        raise _missing(run_id[:64]) from None


def _missing(run_id: str) -> NotFound:
    return NotFound("run.not_found", f"there is no run {run_id}", param="run_id")


def _check_command(command: RunCommand) -> None:
    for name in ("reason", "note"):
        if len(getattr(command.body, name, "")) > MAX_COMMAND_CHARACTERS:
            raise BadInput("run.too_large", f"{name} is longer than {MAX_COMMAND_CHARACTERS} characters", param=name)
    try:
        names.token(command.command_id)
    except ValueError as error:
        raise BadInput("run.bad_command_id", "a command id is letters, digits, - and _", param="command_id") from error


def _within(entries: list[NumberedEntry]) -> list[NumberedEntry]:
    """As many of the first ones as one reply holds; always one."""
    size, kept = 0, []
    for entry in entries:
        size += len(encode(entry))
        if kept and size > MAX_REPLY_BYTES:
            break
        kept.append(entry)
    return kept


def _answering(kind: type[T], answer: Callable[[T], Awaitable[msgspec.Struct]]) -> RequestHandler:
    async def handle(data: bytes) -> bytes:
        try:
            return encode(await answer(_decoded(data, kind)))
        except MoontideError as error:
            return encode(error.to_failure())
        except Exception:
            log.exception("request failed", extra={"request": kind.__name__})
            return encode(internal_failure())

    return handle


def _decoded(data: bytes, kind: Any) -> Any:
    try:
        return decode(data, kind)
    except msgspec.DecodeError as error:
        raise BadInput("run.malformed", "the message is not what this subject takes") from error
