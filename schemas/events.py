"""What others may listen to: CloudEvents 1.0 in JSON on ``MOONTIDE_EVENTS``. The terminal record of an accepted id
is one of the three last types, written once (design principle 8)."""

from typing import Literal

import msgspec

from schemas.failure import Failure

EventType = Literal[
    "dev.moontide.request.accepted",
    "dev.moontide.request.finished",
    "dev.moontide.request.failed",
    "dev.moontide.request.cancelled",
]


class RequestData(msgspec.Struct, frozen=True, kw_only=True):
    request_id: str
    holder: str
    """Instance that holds the request; whoever finds it dead may write the terminal record."""
    model: str = ""
    trace_id: str = ""
    failure: Failure | None = None
    kind: Literal["", "chat", "run"] = ""
    """chat: the holder answers ``HolderQuery``. run: its ledger says the same. Empty: a sender that knows neither."""


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: EventType
    subject: str
    time: str
    """RFC 3339, UTC."""
    datacontenttype: Literal["application/json"] = "application/json"
    data: RequestData


class HolderQuery(msgspec.Struct, frozen=True, kw_only=True, tag="holder.query"):
    """Asked of the instance that accepted ids which have not ended. Reply: ``HolderAnswered``."""

    request_ids: tuple[str, ...]


class HolderAnswered(msgspec.Struct, frozen=True, kw_only=True, tag="holder.answered"):
    held: tuple[str, ...]
    """Those of the ids that it still works on, and will end itself."""
