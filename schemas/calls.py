"""The wire of one call (design principle 2): admission by request and reply, then a numbered stream and beats.

Caller: subscribe ``names.attempt_output(attempt_id)``, send ``CallOpened`` to the admission subject.
Callee: subscribe ``names.attempt_control(attempt_id)``, reply ``CallAdmitted`` or ``Failure``, then publish
``CallItem`` (sequence 0, 1, 2, …), ``CallBeat`` every half second, and ``CallEnded`` last.
Caller: ``CallBeat`` every half second on the control subject, ``CallCancelled`` when it no longer wants the answer.
"""

import msgspec

from schemas.failure import Failure
from schemas.request import RequestContext


class CallOpened(msgspec.Struct, frozen=True, kw_only=True, tag="call.opened"):
    attempt_id: str
    attempt_number: int
    context: RequestContext
    admit_until_unix_seconds: float
    """A callee that reads this later (it was frozen) drops it: the caller has given up on the attempt."""
    body: msgspec.Raw


class CallAdmitted(msgspec.Struct, frozen=True, kw_only=True, tag="call.admitted"):
    instance: str


class CallItem(msgspec.Struct, frozen=True, kw_only=True, tag="call.item"):
    sequence: int
    body: msgspec.Raw


class CallBeat(msgspec.Struct, frozen=True, kw_only=True, tag="call.beat"):
    """``next_sequence`` lets a caller see that the last item was lost while the stream is quiet."""

    next_sequence: int = 0


class CallEnded(msgspec.Struct, frozen=True, kw_only=True, tag="call.ended"):
    next_sequence: int
    failure: Failure | None = None


class CallCancelled(msgspec.Struct, frozen=True, kw_only=True, tag="call.cancelled"):
    reason: str = ""


CallReply = CallAdmitted | Failure
CallOutput = CallItem | CallBeat | CallEnded
CallControl = CallBeat | CallCancelled
