"""What can go wrong at an endpoint, in our words: one table from status codes to errors.

Input: a status, headers and body that the endpoint sent. Output: a ``Fault``. The endpoint's own text is kept only as
``detail``, for the trace: it never becomes the text of an error.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from shared.errors import BadInput, Busy, MoontideError, Unavailable

DETAIL_CHARACTERS = 500
REFUSALS = frozenset((400, 404, 405, 413, 415, 422, 501))
"""Statuses with which endpoints say that they cannot take a request as it is."""
_TRANSIENT = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529))
Redact = Callable[[str], str]
"""A text of the endpoint without the key."""
_TOO_LONG = ("context_length", "context length", "maximum context", "model token limit")
"""What endpoints say of a request that does not fit, by the words of OpenAI, vLLM, SGLang and Moonshot."""
_PARAM = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")


class Fault(Exception):
    """A failed attempt. ``error`` is what the caller gets when no further attempt is made."""

    def __init__(
        self,
        error: MoontideError,
        *,
        transient: bool,
        unhealthy: bool,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.transient = transient
        """Whether the same request may succeed a little later."""
        self.unhealthy = unhealthy
        """Whether it speaks against the endpoint (and not against the request)."""
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.detail = detail[:DETAIL_CHARACTERS]

    @property
    def refused(self) -> bool:
        return self.status in REFUSALS


def broken(code: str, message: str, *, transient: bool = True, detail: str = "") -> Fault:
    """The endpoint did not do what it should. 502: our own callers must not try again, that was done here."""
    error = Unavailable(f"upstream.{code}", message, status=502)
    return Fault(error, transient=transient, unhealthy=True, detail=detail)


def refusal(status: int, retry_after: float | None, body: bytes, redact: Redact) -> Fault:
    """The fault that an answer with an error status stands for."""
    told = _told(body, redact)
    detail = told.get("message") or redact(body.decode("utf-8", "replace"))
    quota = "quota" in f"{told.get('type')} {told.get('code')}"
    transient = status in _TRANSIENT and not quota
    return Fault(
        _error(status, retry_after, told, quota=quota),
        transient=transient,
        unhealthy=transient and status != 429,
        status=status,
        retry_after_seconds=retry_after,
        detail=f"HTTP {status}: {detail}",
    )


def event_error(data: bytes, redact: Redact) -> Fault:
    """The fault that an error inside a stream stands for: these come with status 200."""
    told = _told(data, redact)
    status = told.get("code")
    if not (isinstance(status, int | str) and str(status).isdigit() and 400 <= int(status) < 600):
        return broken("failed", "the endpoint reported an error in its answer", detail=told.get("message", ""))
    return refusal(int(status), None, data, redact)


def _error(status: int, retry_after: float | None, told: dict[str, Any], *, quota: bool) -> MoontideError:
    param = told.get("param")
    if quota:
        return Unavailable("upstream.quota", "the quota at the model's endpoint is used up", status=502)
    if status == 429:
        return Busy("upstream.busy", "the model's endpoint is full", retry_after_seconds=retry_after or 1.0)
    if status in (401, 403):
        return Unavailable("upstream.unauthorized", "the model's endpoint does not accept our key", status=502)
    if status == 404 and not told.get("message"):
        return Unavailable("upstream.not_found", "there is no chat endpoint at the configured url", status=502)
    if 400 <= status < 500 and status not in _TRANSIENT:
        return _refused(status, told, param)
    return Unavailable("upstream.failed", f"the model's endpoint answered with HTTP {status}", status=502)


def _refused(status: int, told: dict[str, Any], param: str | None) -> BadInput:
    words = f"{told.get('code')} {told.get('message')}".lower()
    if any(phrase in words for phrase in _TOO_LONG):  # the code that a tokenizer refuses with: callers may shorten
        message = "the request is longer than the context of the endpoint's model"
        return BadInput("chat.context_overflow", message, param=param)
    about = f" because of {param}" if param else ""
    message = f"the model's endpoint refused the request (HTTP {status}){about}; its words are in the trace"
    return BadInput("upstream.refused", message, param=param)


def _told(body: bytes, redact: Redact) -> dict[str, Any]:
    """Type, code, message and param of an OpenAI-shaped body; also of the flat form and of FastAPI's ``detail``."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return {}
    inner = told.get("error", told) if isinstance(told, dict) else None
    if isinstance(inner, str):
        return {"message": redact(inner)}
    if not isinstance(inner, dict):
        return {}
    message = inner.get("message", inner.get("detail", ""))
    message = message if isinstance(message, str) else msgspec.json.encode(message).decode()
    param = inner.get("param")
    param = redact(param) if isinstance(param, str) and _PARAM.fullmatch(param) else None
    return {"type": inner.get("type"), "code": inner.get("code"), "message": redact(message), "param": param}


def retry_after_seconds(header: str | None, now: datetime) -> float | None:
    """``Retry-After`` as seconds (RFC 9110, 10.2.3: a number or a date); None when absent or unreadable."""
    if header is None:
        return None
    text = header.strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())
