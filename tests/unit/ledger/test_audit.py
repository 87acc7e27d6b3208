"""The audit finds each violation that is planted, and none where there is none."""

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from schemas import codec, names
from schemas.blobs import BlobRef
from schemas.chat import Usage
from schemas.events import CloudEvent, RequestData
from schemas.failure import Failure
from schemas.runs import (
    ContextReduced,
    LeaseTaken,
    LedgerEntry,
    ModelAsked,
    ModelFailed,
    RunAccepted,
    RunEnded,
    RunPaused,
    ToolDecided,
)
from schemas.tools import WorkspaceFile, WorkspaceTree
from shared.blobs.store import BlobStore
from shared.bus.fake import FakeBroker
from shared.clock import SystemClock
from shared.ledger.audit import references, run_findings
from shared.ledger.audit_records import Records, record_findings, unattended_findings
from shared.ledger.commands import CommandLog
from shared.ledger.inspection import Inspection
from shared.ledger.journal import Ledger
from shared.ledger.leases import Leases
from shared.request_events import RequestEvents

from .history import RUN, History, accepted, answer, call_id, ref, result, tool

FAILURE = Failure(code="upstream.quota", message="no more today", status=429)


def good() -> History:
    """All that may happen, with two owners."""
    history = History().take().step(1, calls=2)
    history.add(ModelAsked(step=2, message_count=4), ModelFailed(step=2, failure=FAILURE))
    history.add(ModelAsked(step=2, attempt=2, message_count=4))
    history.take().add(ModelAsked(step=2, attempt=3, message_count=4))
    history.add(answer(2, 1), tool(2, 0, needs_approval=True))
    history.add(ToolDecided(call_id=call_id(2, 0), approved=True, command_id="c1"))
    history.add(result(2, 0))
    history.add(ModelAsked(step=2, message_count=6, purpose="summary"))
    usage = Usage(prompt_tokens=9, completion_tokens=1)
    history.add(ContextReduced(strategy="summary", through_step=1, summary=ref("summary"), usage=usage))
    return history.add(ModelAsked(step=3, message_count=6), answer(3)).add(RunEnded(outcome="finished"))


def test_a_ledger_in_order_has_no_findings() -> None:
    assert run_findings(RUN, good().entries) == []
    assert run_findings(RUN, History().entries) == []


PLANTED: dict[str, Callable[[], History]] = {
    "ledger.after_end": lambda: good().add(RunPaused()),
    "ledger.term_order": lambda: with_term(good_start(), 5),
    "ledger.wrong_owner": lambda: stale(good_start().take()),
    "ledger.no_intent": lambda: good_start().add(answer(1)),
    "ledger.answered_twice": lambda: good_start().step(1).add(result(1, 0)),
    "ledger.asked_twice": lambda: good_start().step(1, calls=1).add(tool(1, 0)),
    "ledger.not_approved": lambda: good_start().add(
        ModelAsked(step=1, message_count=1), answer(1, 1), tool(1, 0, needs_approval=True), result(1, 0)
    ),
    "ledger.command_twice": lambda: good_start().add(RunPaused(command_id="c")).add(RunPaused(command_id="c")),
    "ledger.accepted_twice": lambda: History().add(accepted().events[0]),
    "ledger.illegal": lambda: good_start().add(ModelAsked(step=7, message_count=1)),
}


def good_start() -> History:
    return History().take()


def with_term(history: History, term: int) -> History:
    history.entries.append(history.entry(LeaseTaken(owner="x", term=term), owner="x", term=term))
    return history


def stale(history: History) -> History:
    """The owner before appends once more: as without fencing."""
    history.entries.append(history.entry(ModelAsked(step=1, message_count=1), owner="owner-1", term=1))
    return history


@pytest.mark.parametrize("code", PLANTED)
def test_each_planted_violation_is_found(code: str) -> None:
    found = run_findings(RUN, PLANTED[code]().entries)
    assert code in {finding.code for finding in found}
    assert all(finding.id == RUN for finding in found)
    assert all(finding.sequence for finding in found)


def test_entries_of_others_and_in_disorder_are_found() -> None:
    one, other = History(), History("run-b")
    assert {finding.code for finding in run_findings(RUN, [*one.entries, *one.entries])} >= {"ledger.order"}
    assert {finding.code for finding in run_findings(RUN, other.entries)} == {"ledger.wrong_run"}
    later = History().take().entries[1:]
    assert {finding.code for finding in run_findings(RUN, later)} == {"ledger.not_accepted"}


def event(request_id: str, kind: str, of: str = "chat") -> CloudEvent:
    data = RequestData(request_id=request_id, holder="gateway-1", kind=of)  # type: ignore[arg-type]
    return CloudEvent(
        id=f"{request_id}.{kind}",
        source="/moontide/gateway/gateway-1",
        type=f"dev.moontide.request.{kind}",  # type: ignore[arg-type]
        subject=request_id,
        time="2026-01-01T00:00:00Z",
        data=data,
    )


def records(*events: CloudEvent, whole: bool = True) -> Records:
    known = Records(whole=whole)
    for one in events:
        known.take(one, 1000.0)
    return known


def codes(known: Records, runs: dict[str, History] | None = None, held: set[str] | None = None, before: float = 1500.0):
    last = {run_id: history.entries[-1] for run_id, history in (runs or {}).items()}
    return [f"{finding.code} {finding.id}" for finding in record_findings(known, last, held or set(), before)]


def test_chats_have_one_ending_each() -> None:
    both = event("a", "accepted"), event("a", "finished")
    assert codes(records(*both)) == []
    assert codes(records(*both, event("a", "failed"))) == ["record.ended_twice a"]
    assert codes(records(both[0], *both)) == ["record.accepted_twice a"]
    assert codes(records(both[1])) == ["record.not_accepted a"]
    assert codes(records(both[1], whole=False)) == []
    assert codes(records(both[0])) == ["record.lost a"]
    assert codes(records(both[0]), held={"a"}) == []
    assert codes(records(both[0]), before=990.0) == []


def test_runs_end_as_their_ledgers_say() -> None:
    began, over = event(RUN, "accepted", "run"), event(RUN, "finished", "run")
    assert codes(records(began, over), {RUN: good()}) == []
    assert codes(records(began), {RUN: good()}) == [f"record.missing {RUN}"]
    assert codes(records(began, over), {RUN: good_start()}) == [f"record.too_early {RUN}"]
    assert codes(records(began, event(RUN, "failed", "run")), {RUN: good()}) == [f"record.differs {RUN}"]
    assert codes(records(began)) == [f"record.no_ledger {RUN}"]
    assert codes(records(began, over)) == []
    assert codes(records(), {RUN: good()}) == [f"record.not_accepted {RUN}"]


def test_a_run_without_owner_is_found_after_a_while() -> None:
    last = {RUN: good_start().entries[-1]}
    assert [finding.code for finding in unattended_findings(last, set(), 2000.0)] == ["run.unattended"]
    assert unattended_findings(last, {RUN}, 2000.0) == []
    assert unattended_findings(last, set(), 990.0) == []
    assert unattended_findings({RUN: good().entries[-1]}, set(), 2000.0) == []


def test_every_reference_of_an_entry_is_seen() -> None:
    keys = {ref_.key for numbered in good().entries for ref_ in references(numbered.entry)}
    assert {f"sha256/{name}" for name in ("goal", "answer-1", "arguments-1-1", "result-1-0", "summary")} <= keys


def with_goal(entry: LedgerEntry, goal: BlobRef) -> LedgerEntry:
    (event,) = entry.events
    assert isinstance(event, RunAccepted)
    return replace(entry, events=(replace(event, spec=replace(event.spec, messages=(goal,))),))


async def test_streams_and_blobs_are_read_and_judged(tmp_path: Path) -> None:
    """A run with a workspace, of whose files one is lost, and a chat without an ending."""
    broker = FakeBroker(3)
    bus, clock, blobs = broker.bus("a"), SystemClock(), BlobStore.open(tmp_path.as_uri())
    ledger, events = Ledger(bus, clock), RequestEvents(bus, clock, "gateway")
    assert (await Inspection(bus, clock, blobs, live=True).report()).findings == ()
    for part in (ledger, Leases(bus, clock), CommandLog(bus, clock)):
        await part.declare()
    await events.declare(1 << 20, 600.0)
    goal, lost = await blobs.put(b"goal"), BlobRef(key="sha256/" + "d" * 64, size_bytes=7)
    tree = WorkspaceTree(files=(WorkspaceFile(path="a", content=goal), WorkspaceFile(path="b", content=lost)))
    workspace = await blobs.put(codec.encode(tree))
    await events.record_accepted(RequestData(request_id=RUN, holder="c", kind="run"))
    entry = with_goal(accepted(), goal)
    last = (await ledger.accept(entry)).sequence
    writer = ledger.writer(RUN, "owner-1", 1, last)
    await writer.append([LeaseTaken(owner="owner-1", term=1), ModelAsked(step=1, message_count=1)])
    calls = [replace(answer(1, 1), message=goal), replace(tool(1, 0), arguments=goal)]
    await writer.append([*calls, replace(result(1, 0), message=goal, workspace=workspace)])
    report = await Inspection(bus, clock, blobs, live=True).report()
    assert [(finding.code, finding.id) for finding in report.findings] == [("blob.missing", RUN)]
    assert lost.key in report.findings[0].detail
    assert (report.runs, report.entries, report.requests, report.blobs) == (1, 3, 1, 3)
    partition = names.ledger_partition(RUN)
    await bus.append(names.ledger(partition, RUN), b"rubbish", message_id=secrets.token_hex(4))
    unsafe = await Inspection(bus, clock, None, live=False).report()
    assert [finding.code for finding in unsafe.findings] == ["ledger.unreadable"]
