"""A run as its ledger tells it: ``replay`` folds entries into a ``RunState``, in time linear in them.

Pure: equal entries give equal states, wherever they are replayed, and any prefix may be replayed first. Which event may
follow which is told in ``machine.py``; an event that cannot come raises ``IllegalTransition`` and changes nothing.

The order of the conversation is that of a model's dialogue, not of arrival: an answer, its tools' results in the order
in which the model called them, and then what was said meanwhile. So a run that was interrupted anywhere asks the model
exactly what an undisturbed one asks.

A fork's past is the state of its origin when the named step was complete; the messages of its own ``RunSpec`` follow.
Its usage, cost and commands begin anew.
"""

from collections.abc import Callable, Iterable
from typing import assert_never

import msgspec

from schemas.blobs import BlobRef
from schemas.chat import Usage
from schemas.failure import Failure
from schemas.request import RequestContext
from schemas.runs import (
    ContextReduced,
    LeaseTaken,
    LedgerEntry,
    MessageAdded,
    ModelAnswered,
    ModelAsked,
    ModelFailed,
    NumberedEntry,
    PendingApproval,
    RunAccepted,
    RunEnded,
    RunEvent,
    RunOrigin,
    RunPaused,
    RunResumed,
    RunSpec,
    RunStatus,
    RunSummary,
    RunWaiting,
    ToolAnswered,
    ToolAsked,
    ToolDecided,
)
from schemas.tools import ToolFile
from shared.ledger import machine
from shared.ledger.conversation import Conversation
from shared.ledger.machine import IllegalTransition, OpenCall, Place

NO_USAGE = Usage(prompt_tokens=0, completion_tokens=0)


class RunState(msgspec.Struct, kw_only=True):
    """Changed by ``apply`` alone."""

    run_id: str
    spec: RunSpec
    context: RequestContext
    origin: RunOrigin | None = None
    place: Place
    conversation: Conversation
    created_unix_seconds: float
    updated_unix_seconds: float
    usage: Usage = NO_USAGE
    """Of every recorded model call, summaries included."""
    cost_usd: float = 0.0
    workspace: BlobRef | None = None
    session: BlobRef | None = None
    waiting: Failure | None = None
    """What for, while waiting."""
    waiting_until_unix_seconds: float | None = None
    taken_commands: set[str] = msgspec.field(default_factory=set)
    answer: BlobRef | None = None
    failure: Failure | None = None
    files: tuple[ToolFile, ...] = ()
    """What the run left; see ``RunEnded``."""
    fruitless_terms: int = 0
    """Owners in a row under whom nothing was answered, said or ended: a run that kills whoever takes it has many."""
    last_sequence: int = 0

    @property
    def status(self) -> RunStatus:
        return self.place.status

    @property
    def step(self) -> int:
        return self.place.step

    @property
    def ended(self) -> bool:
        return self.place.ended

    @property
    def open_calls(self) -> tuple[OpenCall, ...]:
        """Asked for and not answered."""
        return tuple(call for call in self.place.calls if not call.answered)

    @property
    def approvals(self) -> tuple[PendingApproval, ...]:
        waiting = [call for call in self.place.calls if call.waits_for_approval and not self.ended]
        return tuple(
            PendingApproval(call_id=call.call_id, tool=call.tool, arguments=call.arguments) for call in waiting
        )

    def check(self, entry: LedgerEntry) -> None:
        """Raises IllegalTransition when ``entry`` could not be applied now."""
        self._path(entry)

    def apply(self, numbered: NumberedEntry, told: Callable[[RunEvent], None] | None = None) -> None:
        """Raises IllegalTransition, and changes nothing then. ``told`` hears of each event once it is taken."""
        entry = numbered.entry
        if numbered.sequence <= self.last_sequence:
            raise IllegalTransition(entry, f"sequence {numbered.sequence} after {self.last_sequence}")
        places = self._path(entry)
        for event, place in zip(entry.events, places, strict=True):
            self.place = place
            self._take(event)
            if told is not None:
                told(event)
        self.taken_commands |= _commands(entry)
        self.last_sequence = numbered.sequence
        self.updated_unix_seconds = entry.time_unix_seconds

    def _path(self, entry: LedgerEntry) -> list[Place]:
        if entry.run_id != self.run_id:
            raise IllegalTransition(entry, "it belongs to another run")
        if again := _commands(entry) & self.taken_commands:
            raise IllegalTransition(entry, f"command {min(again)} was taken before")
        return machine.path(self.place, entry)

    def _take(self, event: RunEvent) -> None:
        if isinstance(event, LeaseTaken):
            self.fruitless_terms += 1
        elif not isinstance(event, ModelAsked | ToolAsked):
            self.fruitless_terms = 0
        match event:
            case ModelAsked():
                self.conversation.asked()
            case ModelAnswered():
                self.conversation.answered(event)
                self._count(event.usage, event.cost_usd)
            case ToolAnswered():
                self.conversation.tool_answered(event, self._tool_call_id(event.call_id))
                self.workspace = event.workspace or self.workspace
                self.session = event.session or self.session
            case MessageAdded():
                self.conversation.added(event, self.place.step + (1 if self.place.at_rest else 0))
            case ContextReduced():
                self.conversation.reduced(event)
                self._count(event.usage, event.cost_usd)
            case RunWaiting():
                self.waiting, self.waiting_until_unix_seconds = event.failure, event.until_unix_seconds
            case RunPaused() | RunResumed():
                self.waiting = self.waiting_until_unix_seconds = None
            case RunEnded():
                self.waiting = self.waiting_until_unix_seconds = None
                self.answer, self.failure, self.files = event.answer, event.failure, event.files
            case RunAccepted() | LeaseTaken() | ModelFailed() | ToolAsked() | ToolDecided():
                pass  # the place says all of it
            case _:
                assert_never(event)
        if self.place.at_rest:
            self.conversation.rest([call.call_id for call in self.place.calls])
        elif isinstance(event, ModelFailed):
            self.conversation.asked()

    def _tool_call_id(self, call_id: str) -> str:
        return next(call.tool_call_id for call in self.place.calls if call.call_id == call_id)

    def _count(self, usage: Usage | None, cost_usd: float) -> None:
        self.cost_usd += cost_usd
        if usage is not None:
            self.usage = added(self.usage, usage)

    def summary(self) -> RunSummary:
        place = self.place
        return RunSummary(
            run_id=self.run_id,
            kind=self.spec.kind,
            status=place.status,
            model=self.spec.model,
            title=self.spec.title,
            principal=self.context.principal,
            created_unix_seconds=self.created_unix_seconds,
            updated_unix_seconds=self.updated_unix_seconds,
            trace_id=trace_id(self.context),
            step=place.step,
            usage=self.usage,
            cost_usd=self.cost_usd,
            owner=place.owner,
            term=place.term,
            waiting=self.waiting,
            approvals=self.approvals,
            answer=self.answer,
            failure=self.failure,
            files=self.files,
            workspace=self.workspace,
            origin=self.origin,
            last_sequence=self.last_sequence,
        )


def replay(entries: Iterable[NumberedEntry], past: RunState | None = None) -> RunState:
    """The state after ``entries``, from the first of a ledger on; ``past`` is a fork's. Raises IllegalTransition."""
    state: RunState | None = None
    for numbered in entries:
        if state is None:
            state = begin(numbered, past)
        else:
            state.apply(numbered)
    if state is None:
        raise ValueError("a ledger has at least one entry")
    return state


def begin(numbered: NumberedEntry, past: RunState | None = None) -> RunState:
    """The state after a ledger's first entry. Raises IllegalTransition."""
    entry = numbered.entry
    places = machine.path(None, entry)
    accepted = entry.events[0]
    assert isinstance(accepted, RunAccepted), "the machine has seen to it"
    state = RunState(
        run_id=entry.run_id,
        spec=accepted.spec,
        context=accepted.context,
        origin=accepted.origin,
        place=places[0],
        conversation=past.conversation.forked() if past is not None else Conversation(),
        workspace=past.workspace if past is not None else None,
        session=past.session if past is not None else None,
        created_unix_seconds=entry.time_unix_seconds,
        updated_unix_seconds=entry.time_unix_seconds,
        last_sequence=numbered.sequence,
    )
    state.conversation.given(accepted.spec.messages, places[0].step + 1 if past is not None else 0)
    return state


def through_step(entries: Iterable[NumberedEntry], step: int) -> list[NumberedEntry]:
    """Those up to the event with which ``step`` was complete, the last one cut there; all when it is not."""
    kept: list[NumberedEntry] = []
    place: Place | None = None
    for numbered in entries:
        places = machine.path(place, numbered.entry)
        end = next((index for index, place in enumerate(places) if _completes(place, step)), None)
        if end is not None:
            cut = msgspec.structs.replace(numbered.entry, events=numbered.entry.events[: end + 1])
            return [*kept, NumberedEntry(sequence=numbered.sequence, entry=cut)]
        kept.append(numbered)
        place = places[-1]
    return kept


def _completes(place: Place, step: int) -> bool:
    return place.step == step and place.at_rest and not place.asking


def added(one: Usage, other: Usage) -> Usage:
    return Usage(**{field: getattr(one, field) + getattr(other, field) for field in Usage.__struct_fields__})


def trace_id(context: RequestContext) -> str:
    """Of the W3C trace context; empty when there is none."""
    parts = context.traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""


def _commands(entry: LedgerEntry) -> set[str]:
    return {command for event in entry.events if (command := getattr(event, "command_id", ""))}
