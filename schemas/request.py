"""What every message of a request carries: who, how urgent, until when, under which trace."""

from typing import Literal

import msgspec

Priority = Literal["interactive", "batch"]


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    tenant: str = "local"
    key_id: str = "local"


class RequestContext(msgspec.Struct, frozen=True, kw_only=True):
    request_id: str
    principal: Principal = Principal()
    priority: Priority = "interactive"
    deadline_unix_seconds: float
    """Wall-clock time after which nobody wants the answer."""
    traceparent: str = ""
    """W3C trace context of the sender's span."""
