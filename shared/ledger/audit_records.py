"""Whether accepted ids end in exactly one visible terminal record (design principle 8). Pure.

In: what the events log and the ledgers hold, who still holds which chats, and which runs have an owner. Out:
``Finding``s. What is young is not judged: between an end and its record is a moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.events import CloudEvent, RequestData
from schemas.runs import NumberedEntry, RunEnded
from shared.ledger.audit import Finding


@dataclass
class Record:
    """Of one id, in the events log."""

    accepted: int = 0
    terminal: int = 0
    outcome: str = ""
    data: RequestData | None = None
    time_unix_seconds: float = 0.0
    """Of the last of its events."""


@dataclass
class Records:
    """Every id of the events log."""

    by_id: dict[str, Record] = field(default_factory=dict)
    whole: bool = True
    """The log has lost nothing of its beginning."""

    def take(self, event: CloudEvent, time_unix_seconds: float) -> None:
        record = self.by_id.setdefault(event.data.request_id, Record())
        kind = event.type.rsplit(".", 1)[-1]
        if kind == "accepted":
            record.accepted += 1
        else:
            record.terminal += 1
            record.outcome = kind
        record.data = record.data or event.data
        record.time_unix_seconds = max(record.time_unix_seconds, time_unix_seconds)

    def open_chats(self) -> dict[str, RequestData]:
        return {
            request_id: record.data
            for request_id, record in self.by_id.items()
            if not record.terminal and record.data is not None and record.data.kind == "chat"
        }


def record_findings(
    records: Records, runs: Mapping[str, NumberedEntry], held: set[str], before_unix_seconds: float
) -> list[Finding]:
    """Of what happened before a moment. ``runs``: each with its last entry, read behind the events log. ``held``: open
    chats that somebody works on."""
    found: list[Finding] = []
    for request_id, record in sorted(records.by_id.items()):
        found += _counted(request_id, record, records.whole)
        if record.data is None or record.time_unix_seconds > before_unix_seconds:
            continue
        if record.data.kind == "run":
            found += _run(request_id, record, runs.get(request_id))
        elif record.data.kind == "chat" and not record.terminal and request_id not in held:
            found.append(_finding("record.lost", request_id, "accepted, not ended, and nobody holds it"))
    for run_id, last in sorted(runs.items()):
        old = last.entry.time_unix_seconds <= before_unix_seconds
        if records.whole and old and run_id not in records.by_id:
            found.append(_finding("record.not_accepted", run_id, "a ledger, and no accepted event"))
    return found


def unattended_findings(
    runs: Mapping[str, NumberedEntry], attended: set[str], before_unix_seconds: float
) -> list[Finding]:
    """Runs that have not ended and that nobody takes care of, or has been told to."""
    return [
        _finding("run.unattended", run_id, "it has not ended, and has neither owner nor wake-up")
        for run_id, last in sorted(runs.items())
        if outcome_of(last) == "" and run_id not in attended and last.entry.time_unix_seconds <= before_unix_seconds
    ]


def outcome_of(last: NumberedEntry) -> str:
    """Of a run's last entry; empty: it has not ended."""
    ends = [event.outcome for event in last.entry.events if isinstance(event, RunEnded)]
    return ends[0] if ends else ""


def _counted(request_id: str, record: Record, whole: bool) -> list[Finding]:
    found: list[Finding] = []
    if record.accepted > 1:
        found.append(_finding("record.accepted_twice", request_id, f"{record.accepted} accepted events"))
    if record.terminal > 1:
        found.append(_finding("record.ended_twice", request_id, f"{record.terminal} terminal records"))
    if record.terminal and not record.accepted and whole:
        found.append(_finding("record.not_accepted", request_id, "a terminal record, and no accepted event"))
    return found


def _run(run_id: str, record: Record, last: NumberedEntry | None) -> list[Finding]:
    if last is None:
        if record.terminal:
            return []  # it ended, and its ledger was removed later
        return [_finding("record.no_ledger", run_id, "accepted, not ended, and there is no ledger")]
    outcome = outcome_of(last)
    if outcome and not record.terminal:
        return [_finding("record.missing", run_id, f"its ledger says {outcome}, and there is no terminal record")]
    if record.terminal and not outcome:
        return [_finding("record.too_early", run_id, "a terminal record, and its ledger has not ended")]
    if record.terminal and record.outcome != outcome:
        return [_finding("record.differs", run_id, f"the record says {record.outcome}, the ledger {outcome}")]
    return []


def _finding(code: str, id_: str, detail: str) -> Finding:
    return Finding(code=code, id=id_, detail=detail)
