"""One request and what came back, as values, and the same request as a curl command.

Input: what `probe.py` saw. Output: an ``Exchange``. The key is never part of it: curl takes it from a variable.
"""

import json
import shlex
from dataclasses import dataclass, field
from typing import Any

KEY_VARIABLE = "MOONTIDE_VERIFY_KEY"


@dataclass(frozen=True)
class Event:
    """The data of one server-sent event, and when it was complete: seconds after the request was sent."""

    seconds: float
    data: bytes


@dataclass(frozen=True)
class Exchange:
    method: str
    url: str
    body: bytes | None = None
    bearer: str | None = None
    """The Authorization to show; None for the endpoint's key, "" for none at all."""
    status: int = 0
    """0: no answer came, see ``failure``."""
    failure: str = ""
    content_type: str = ""
    data: bytes = b""
    events: tuple[Event, ...] = ()
    at_once: int = 1
    """How many such requests were open together."""
    seconds: float = 0.0

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300 and not self.failure

    def json(self) -> Any:
        """The body as JSON, or None."""
        return parsed(self.data)


@dataclass(frozen=True)
class Wish:
    """A request to be made. ``body``: bytes go as they are, anything else as JSON."""

    method: str
    path: str
    body: Any = None
    streams: bool = False
    bearer: str | None = None
    at_once: int = field(default=1)


def parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def curl(exchange: Exchange, *, has_key: bool) -> str:
    """A command for a POSIX shell that repeats the exchange, as often at once as it was made."""
    words = ["curl", "-sS", "-N", "-i", "-X", exchange.method, shlex.quote(exchange.url)]
    bearer = f"${KEY_VARIABLE}" if exchange.bearer is None and has_key else exchange.bearer
    if bearer:
        words += ["-H", f'"Authorization: Bearer {bearer}"']
    if exchange.body is not None:
        words += ["-H", "'Content-Type: application/json'", "--data-binary", shlex.quote(exchange.body.decode())]
    command = " ".join(words)
    if exchange.at_once == 1:
        return command
    return f"for i in $(seq {exchange.at_once}); do {command} & done; wait"
