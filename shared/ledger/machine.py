"""The state machine of a run: which event may follow which. Pure: a place and an event give the next place.

    (nothing) ──RunAccepted──▶ queued ──LeaseTaken──▶ running ──RunEnded──▶ finished, failed, cancelled
                                                       ▲   ▲
                                 RunWaiting, RunResumed│   │RunPaused, RunResumed
                                                       ▼   ▼
                                                   waiting  paused      (from waiting to paused too)

- ``LeaseTaken`` counts the term up by one, in any state but an ended one, and changes nothing else: what was open stays
  open. Every other event is of the present owner and term. A run that nobody took cannot do anything.
- A step: ``ModelAsked`` (attempt 1, 2, …) → ``ModelFailed`` and the next attempt, or ``ModelAnswered``. A new owner
  may ask again without ``ModelFailed``: the attempt before it died with the owner before.
- ``ModelAnswered`` says how many tools it calls. So many ``ToolAsked`` follow, and one ``ToolAnswered`` for each; a
  call that needs approval is answered after ``ToolDecided``, or refused with a failure. Only then comes the next step.
- The model is asked only while running. What was asked before a pause or a wait may be answered in it.
- A summary: at rest, ``ModelAsked`` for one, of the step before; ``ContextReduced`` with the summary is its answer.
- A tool may be asked for at rest that no model called (its ``tool_call_id`` is empty): what a run leaves is made so.
- ``RunEnded`` may come at any time, also with calls open, and nothing comes after it.

It must not know where entries are kept, and nothing of conversations.
"""

from typing import assert_never

import msgspec

from schemas.blobs import BlobRef
from schemas.runs import (
    ContextReduced,
    LeaseTaken,
    LedgerEntry,
    MessageAdded,
    ModelAnswered,
    ModelAsked,
    ModelFailed,
    RunAccepted,
    RunEnded,
    RunEvent,
    RunPaused,
    RunResumed,
    RunStatus,
    RunWaiting,
    ToolAnswered,
    ToolAsked,
    ToolDecided,
)
from shared.errors import Internal

ENDED: frozenset[RunStatus] = frozenset({"finished", "failed", "cancelled"})


class IllegalTransition(Internal):
    """An event that cannot come here: code ``ledger.illegal``."""

    def __init__(self, event: RunEvent | LedgerEntry, reason: str) -> None:
        super().__init__("ledger.illegal", f"{type(event).__name__} is not possible: {reason}")


class OpenCall(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call of the present step."""

    call_id: str
    step: int
    tool_call_id: str
    tool: str
    arguments: BlobRef
    needs_approval: bool = False
    approved: bool | None = None
    note: str = ""
    answered: bool = False

    @property
    def waits_for_approval(self) -> bool:
        return self.needs_approval and self.approved is None and not self.answered


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run is."""

    status: RunStatus
    owner: str = ""
    term: int = 0
    step: int = 0
    """The last one that the model was asked for."""
    attempt: int = 0
    """Of that step."""
    asking: bool = False
    """A model call is open."""
    summarising: bool = False
    """The open model call is for a summary."""
    asked_term: int = 0
    wanted_calls: int = 0
    """How many tools the answer of the step calls."""
    calls: tuple[OpenCall, ...] = ()
    """Those asked for in this step, in the model's order."""
    answered: bool = True
    """The step has its answer."""

    @property
    def at_rest(self) -> bool:
        """Nothing is open: the next step may begin."""
        return self.answered and len(self.calls) == self.wanted_calls and all(call.answered for call in self.calls)

    @property
    def ended(self) -> bool:
        return self.status in ENDED


def begin(entry: LedgerEntry) -> Place:
    """The place after the first event of a ledger. Raises IllegalTransition."""
    event = entry.events[0] if entry.events else None
    if not isinstance(event, RunAccepted) or entry.term != 0:
        raise IllegalTransition(entry, "a ledger begins with the acceptance of its run")
    return Place(status="queued", step=event.origin.step if event.origin is not None else 0)


def path(place: Place | None, entry: LedgerEntry) -> list[Place]:
    """The place after each event of an entry. Raises IllegalTransition."""
    places: list[Place] = []
    for event in entry.events:
        if place is None:
            place = begin(entry)
        else:
            _check_owner(place, entry, event)
            place = advance(place, event, entry.term)
        places.append(place)
    if not places:
        raise IllegalTransition(entry, "it has no events")
    return places


def _check_owner(place: Place, entry: LedgerEntry, event: RunEvent) -> None:
    if place.ended:
        raise IllegalTransition(event, "the run has ended")
    if isinstance(event, LeaseTaken):
        if (event.owner, event.term) != (entry.owner, entry.term):
            raise IllegalTransition(event, "a lease is taken by whoever writes")
    elif (entry.owner, entry.term) != (place.owner, place.term) or entry.term == 0:
        raise IllegalTransition(event, f"the owner is {place.owner!r} in term {place.term}")


def advance(place: Place, event: RunEvent, term: int) -> Place:
    """The next place. Raises IllegalTransition."""
    match event:
        case RunAccepted():
            raise IllegalTransition(event, "the run is accepted already")
        case LeaseTaken():
            return _taken(place, event)
        case ModelAsked():
            return _asked(place, event, term)
        case ModelAnswered() | ModelFailed():
            return _heard(place, event)
        case ToolAsked():
            return _tool_asked(place, event)
        case ToolDecided():
            return _decided(place, event)
        case ToolAnswered():
            return _tool_answered(place, event)
        case ContextReduced():
            return _reduced(place, event)
        case MessageAdded():
            return place
        case RunWaiting() | RunPaused() | RunResumed():
            return _with_status(place, event)
        case RunEnded():
            return msgspec.structs.replace(place, status=event.outcome)
        case _:
            assert_never(event)


def _taken(place: Place, event: LeaseTaken) -> Place:
    if event.term != place.term + 1:
        raise IllegalTransition(event, f"term {event.term} after {place.term}")
    status = "running" if place.status == "queued" else place.status
    return msgspec.structs.replace(place, owner=event.owner, term=event.term, status=status)


def _asked(place: Place, event: ModelAsked, term: int) -> Place:
    if place.status != "running":
        raise IllegalTransition(event, f"the run is {place.status}")
    if place.asking and place.asked_term == term:
        raise IllegalTransition(event, "this owner has asked already")
    if place.answered and not place.at_rest:
        raise IllegalTransition(event, "tool calls are open")
    if event.purpose == "summary":
        return _summary_asked(place, event, term)
    expected = (place.step + 1, 1) if place.answered else (place.step, place.attempt + 1)
    if (event.step, event.attempt) != expected:
        raise IllegalTransition(event, f"step and attempt are {(event.step, event.attempt)}, not {expected}")
    return msgspec.structs.replace(
        place,
        step=event.step,
        attempt=event.attempt,
        asking=True,
        summarising=False,
        asked_term=term,
        answered=False,
        wanted_calls=0,
        calls=(),
    )


def _summary_asked(place: Place, event: ModelAsked, term: int) -> Place:
    if event.step != place.step:
        raise IllegalTransition(event, f"the step is {place.step}")
    return msgspec.structs.replace(place, asking=True, summarising=True, asked_term=term)


def _heard(place: Place, event: ModelAnswered | ModelFailed) -> Place:
    if not place.asking or event.step != place.step:
        raise IllegalTransition(event, f"the model was not asked for step {event.step}")
    if isinstance(event, ModelAnswered):
        if place.summarising:
            raise IllegalTransition(event, "a summary was asked for")
        return msgspec.structs.replace(place, asking=False, answered=True, wanted_calls=event.tool_calls)
    if event.attempt != place.attempt and not place.summarising:
        raise IllegalTransition(event, f"the attempt is {place.attempt}, not {event.attempt}")
    return msgspec.structs.replace(place, asking=False, summarising=False)


def _tool_asked(place: Place, event: ToolAsked) -> Place:
    by_model = event.tool_call_id != ""
    full = len(place.calls) >= place.wanted_calls if by_model else place.asking or not place.at_rest
    if not place.answered or event.step != place.step or full:
        raise IllegalTransition(event, f"step {event.step} calls no more tools")
    if any(event.call_id == call.call_id for call in place.calls):
        raise IllegalTransition(event, f"{event.call_id} is asked already")
    call = OpenCall(
        call_id=event.call_id,
        step=event.step,
        tool_call_id=event.tool_call_id,
        tool=event.tool,
        arguments=event.arguments,
        needs_approval=event.needs_approval,
    )
    wanted = place.wanted_calls if by_model else place.wanted_calls + 1
    return msgspec.structs.replace(place, calls=(*place.calls, call), wanted_calls=wanted)


def _open(place: Place, event: ToolDecided | ToolAnswered) -> OpenCall:
    for call in place.calls:
        if call.call_id == event.call_id and not call.answered:
            return call
    raise IllegalTransition(event, f"{event.call_id} is not open")


def _decided(place: Place, event: ToolDecided) -> Place:
    call = _open(place, event)
    if not call.waits_for_approval:
        raise IllegalTransition(event, f"{event.call_id} does not wait for a decision")
    return _with_call(place, msgspec.structs.replace(call, approved=event.approved, note=event.note))


def _tool_answered(place: Place, event: ToolAnswered) -> Place:
    call = _open(place, event)
    if event.step != call.step:
        raise IllegalTransition(event, f"{event.call_id} is of step {call.step}")
    if call.needs_approval and not call.approved and event.failure is None:
        raise IllegalTransition(event, f"{event.call_id} was not approved")
    return _with_call(place, msgspec.structs.replace(call, answered=True))


def _with_call(place: Place, changed: OpenCall) -> Place:
    calls = tuple(changed if call.call_id == changed.call_id else call for call in place.calls)
    return msgspec.structs.replace(place, calls=calls)


def _reduced(place: Place, event: ContextReduced) -> Place:
    complete = place.step if place.at_rest else place.step - 1
    if not 0 <= event.through_step <= complete:
        raise IllegalTransition(event, f"step {event.through_step} is not complete")
    if place.asking and not place.summarising:
        raise IllegalTransition(event, "the model is asked for a step")
    if event.usage is not None and not place.summarising:
        raise IllegalTransition(event, "the model was not asked for a summary")
    return msgspec.structs.replace(place, asking=False, summarising=False)


def _with_status(place: Place, event: RunWaiting | RunPaused | RunResumed) -> Place:
    match event, place.status:
        case RunWaiting(), "running" | "waiting":
            return msgspec.structs.replace(place, status="waiting")
        case RunPaused(), "running" | "waiting":
            return msgspec.structs.replace(place, status="paused")
        case RunResumed(), "waiting" | "paused":
            return msgspec.structs.replace(place, status="running")
        case _:
            raise IllegalTransition(event, f"the run is {place.status}")
