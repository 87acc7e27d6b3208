"""What a check may say instead of passing: a defect, an open refusal, or that something is not offered.

Input: exchanges. Output: exceptions that carry a reason and the exchanges that show it. Pure.
"""

from collections.abc import Sequence
from typing import Any

from services.cli.verify.exchange import Exchange

SHOWN_CHARACTERS = 200
OPEN_REFUSALS = frozenset({400, 404, 405, 413, 415, 422, 429, 501})
"""Statuses that say "I do not do this"; 401 and 403 say something about the key, 5xx that something broke."""


class Verdict(Exception):
    def __init__(self, reason: str, *exchanges: Exchange) -> None:
        super().__init__(reason)
        self.reason = reason
        self.exchanges: Sequence[Exchange] = exchanges


class Defect(Verdict):
    """The promise is broken."""


class NotOffered(Verdict):
    """The endpoint does not have this, or it cannot be told."""


class Refused(Verdict):
    """A request was refused with a clear 4xx: not offered where the check's capability is optional, else a defect."""


def require(holds: bool, reason: str, *exchanges: Exchange) -> None:
    """Raises Defect unless the promise holds."""
    if not holds:
        raise Defect(reason, *exchanges)


def accepted(exchange: Exchange) -> Exchange:
    """The exchange when it succeeded. Raises Refused or Defect."""
    if exchange.accepted:
        return exchange
    if exchange.failure:
        raise Defect(exchange.failure, exchange)
    message = refusal_message(exchange.json())
    reason = f"HTTP {exchange.status}: {message or shown(exchange.data)}"
    if message and exchange.status in OPEN_REFUSALS:
        raise Refused(reason, exchange)
    raise Defect(reason, exchange)


def refusal_message(body: Any) -> str:
    """What an error body says, in any of the usual shapes; empty when it says nothing."""
    if not isinstance(body, dict):
        return ""
    error = body.get("error")
    found = error.get("message") if isinstance(error, dict) else error or body.get("message") or body.get("detail")
    return shown(found) if found else ""


def shaped_error(exchange: Exchange, statuses: Sequence[int]) -> str:
    """All words of a refusal in OpenAI's shape, in lower case. Raises Defect when it is none."""
    require(not exchange.failure, exchange.failure, exchange)
    wanted = "a 4xx" if len(statuses) > 1 else str(statuses[0])
    require(exchange.status in statuses, f"HTTP {exchange.status} instead of {wanted}", exchange)
    body = exchange.json()
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        raise Defect(f"the body has no error object: {shown(exchange.data)}", exchange)
    for name in ("message", "type"):
        require(isinstance(error.get(name), str) and error[name] != "", f"error.{name} is no text", exchange)
    words = (error["message"], error["type"], error.get("param"), error.get("code"))
    return " ".join(str(word) for word in words if word is not None).lower()


def shown(value: Any) -> str:
    """A value on one bounded line."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
