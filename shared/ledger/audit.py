"""What streams must never hold: findings over one run's ledger. Pure, and independent of the state machine.

In: entries as they are stored. Out: ``Finding``s, all of them, not only the first: the audit is for ledgers of which
something is wrong, also with the machine that wrote them. ``audit_records.py`` judges accepted and terminal records.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from schemas.blobs import BlobRef
from schemas.runs import (
    ContextReduced,
    LeaseTaken,
    LedgerEntry,
    ModelAnswered,
    ModelAsked,
    ModelFailed,
    NumberedEntry,
    RunAccepted,
    RunEnded,
    RunEvent,
    ToolAnswered,
    ToolAsked,
    ToolDecided,
)
from shared.ledger.machine import IllegalTransition, Place, path


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One violation."""

    code: str
    """``ledger.…``, ``record.…``, ``run.…`` or ``blob.…``."""
    id: str
    """Of the run or request."""
    detail: str
    sequence: int = 0
    """Of the entry in its stream; 0 where there is none."""


def run_findings(run_id: str, entries: Iterable[NumberedEntry]) -> list[Finding]:
    """Of the entries of one ledger, oldest first."""
    known = list(entries)
    check = _Check(run_id)
    for numbered in known:
        check.entry(numbered)
    return check.findings or _illegal(run_id, known)


def _illegal(run_id: str, entries: Sequence[NumberedEntry]) -> list[Finding]:
    """What the state machine refuses beyond everything that has a name here."""
    place: Place | None = None
    for numbered in entries:
        try:
            place = path(place, numbered.entry)[-1]
        except IllegalTransition as error:
            return [Finding(code="ledger.illegal", id=run_id, detail=error.message, sequence=numbered.sequence)]
    return []


@dataclass
class _Call:
    needs_approval: bool
    approved: bool = False
    answered: bool = False


@dataclass
class _Check:
    run_id: str
    findings: list[Finding] = field(default_factory=list)
    accepted: bool = False
    ended: bool = False
    owner: str = ""
    term: int = 0
    asked: bool = False
    answered_steps: set[int] = field(default_factory=set)
    calls: dict[str, _Call] = field(default_factory=dict)
    commands: set[str] = field(default_factory=set)
    sequence: int = 0

    def entry(self, numbered: NumberedEntry) -> None:
        if numbered.sequence <= self.sequence:
            self.found("ledger.order", f"sequence {numbered.sequence} after {self.sequence}")
        self.sequence = numbered.sequence
        entry = numbered.entry
        if entry.run_id != self.run_id:
            self.found("ledger.wrong_run", f"an entry of {entry.run_id}")
        for event in entry.events:
            self._owner(entry, event)
            self._event(event)
        self._commands(entry)

    def found(self, code: str, detail: str) -> None:
        self.findings.append(Finding(code=code, id=self.run_id, detail=detail, sequence=self.sequence))

    def _owner(self, entry: LedgerEntry, event: RunEvent) -> None:
        name = type(event).__name__
        if self.ended:
            self.found("ledger.after_end", f"{name} after the run's end")
        if not self.accepted and not isinstance(event, RunAccepted):
            self.found("ledger.not_accepted", f"{name} before the run was accepted")
        if isinstance(event, RunAccepted | LeaseTaken):
            return
        if (entry.owner, entry.term) != (self.owner, self.term):
            text = f"{name} of {entry.owner!r} in term {entry.term}, while {self.owner!r} has it in term {self.term}"
            self.found("ledger.wrong_owner", text)

    def _event(self, event: RunEvent) -> None:
        match event:
            case RunAccepted():
                self._accepted()
            case LeaseTaken():
                self._taken(event)
            case ModelAsked():
                self.asked = True
            case ModelAnswered():
                self._answered(event)
            case ModelFailed():
                self._intended(f"the model failed in step {event.step}")
                self.asked = False
            case ContextReduced() if event.usage is not None:
                self._intended("the model summed up the past")
                self.asked = False
            case ToolAsked():
                self._tool_asked(event)
            case ToolDecided():
                if (call := self._call(event)) is not None:
                    call.approved = event.approved
            case ToolAnswered():
                self._tool_answered(event)
            case RunEnded():
                self.ended = True
            case _:
                pass

    def _accepted(self) -> None:
        if self.accepted:
            self.found("ledger.accepted_twice", "the run is accepted already")
        self.accepted = True

    def _taken(self, event: LeaseTaken) -> None:
        if event.term != self.term + 1:
            self.found("ledger.term_order", f"term {event.term} of {event.owner!r} after term {self.term}")
        self.owner, self.term = event.owner, event.term

    def _intended(self, what: str) -> None:
        if not self.asked:
            self.found("ledger.no_intent", f"{what}, and was not asked")

    def _answered(self, event: ModelAnswered) -> None:
        if event.step in self.answered_steps:
            self.found("ledger.answered_twice", f"step {event.step} has an answer already")
        else:
            self._intended(f"the model answered step {event.step}")
        self.answered_steps.add(event.step)
        self.asked = False

    def _tool_asked(self, event: ToolAsked) -> None:
        if event.call_id in self.calls:
            self.found("ledger.asked_twice", f"{event.call_id} is asked for already")
        self.calls[event.call_id] = _Call(event.needs_approval)

    def _call(self, event: ToolDecided | ToolAnswered) -> _Call | None:
        call = self.calls.get(event.call_id)
        if call is None:
            self.found("ledger.no_intent", f"{type(event).__name__} of {event.call_id}, which was not asked for")
        return call

    def _tool_answered(self, event: ToolAnswered) -> None:
        call = self._call(event)
        if call is None:
            return
        if call.answered:
            self.found("ledger.answered_twice", f"{event.call_id} has a result already")
        if call.needs_approval and not call.approved and event.failure is None:
            self.found("ledger.not_approved", f"{event.call_id} was done without a person's word")
        call.answered = True

    def _commands(self, entry: LedgerEntry) -> None:
        taken = {command for event in entry.events if (command := getattr(event, "command_id", ""))}
        for command in sorted(taken & self.commands):
            self.found("ledger.command_twice", f"command {command} was taken before")
        self.commands |= taken


def references(value: object) -> Iterator[BlobRef]:
    """Every blob that a message points to."""
    if isinstance(value, BlobRef):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from references(item)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from references(getattr(value, name))
