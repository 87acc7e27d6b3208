"""What others see of a run: its accepted event and its terminal record, as its ledger tells them. Pure.

In: entries. Out: data for ``RequestEvents``. Written by the run's owner, and by the sweeper where that one died in
between; both write the same.
"""

import msgspec

from schemas.events import RequestData
from schemas.runs import LedgerEntry, RunAccepted, RunEnded
from shared.ledger.machine import IllegalTransition
from shared.ledger.state import RunState, trace_id
from shared.request_events import Outcome


def accepted_record(first: LedgerEntry) -> RequestData:
    """Of a ledger's first entry. Raises IllegalTransition when that is none."""
    accepted = first.events[0] if first.events else None
    if not isinstance(accepted, RunAccepted):
        raise IllegalTransition(first, "a ledger begins with the acceptance of its run")
    return RequestData(
        request_id=first.run_id,
        holder=first.owner,
        model=accepted.spec.model,
        trace_id=trace_id(accepted.context),
        kind="run",
    )


def terminal_record(accepted: RequestData, last: LedgerEntry) -> tuple[Outcome, RequestData] | None:
    """Of a run's accepted record and its ledger's last entry; None while it has not ended."""
    ended = last.events[-1] if last.events else None
    if not isinstance(ended, RunEnded):
        return None
    return ended.outcome, msgspec.structs.replace(accepted, holder=last.owner, failure=ended.failure)


def ended_record(state: RunState) -> tuple[Outcome, RequestData] | None:
    """The same from a run's state; None while it has not ended."""
    if state.status not in ("finished", "failed", "cancelled"):
        return None
    data = RequestData(
        request_id=state.run_id,
        holder=state.place.owner,
        model=state.spec.model,
        trace_id=trace_id(state.context),
        failure=state.failure,
        kind="run",
    )
    return state.status, data
