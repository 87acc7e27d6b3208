"""A running span as the code inside it sees it, and which span is the current one of a task.

Input: an SDK tracer. Output: started and ended SDK spans with our status rules. It must not know the bus.

The current span lives in a context variable, as a chain: a span that ended in another task or context than it began in
(an async generator closed elsewhere) is skipped, so nothing has to be detached where it was attached.
"""

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas.telemetry import ATTR_ERROR_TYPE, ATTR_SPAN_CANCELLED, ATTR_TENANT, AttributeValue
from shared.errors import Cancelled, MoontideError

_current: ContextVar["Span | None"] = ContextVar("moontide_current_span", default=None)

MAX_STATUS_CHARACTERS = 1000


def current_span() -> "Span | None":
    """The innermost span of this task that has not ended."""
    span = _current.get()
    while span is not None and span.ended:
        span = span.outer
    return span


class Span:
    """Context manager: entering starts the span and makes it current, leaving ends it.

    ``parent`` is a traceparent, ``""`` for a new root (also what an invalid traceparent means), None for the current
    span. Of an exception the status is ``error`` and ``error.type`` our code or the class name; of a cancellation
    ``cancelled``. Exceptions pass through. A span inside another one belongs to the same tenant.
    """

    def __init__(
        self,
        tracer: trace.Tracer,
        name: str,
        *,
        parent: str | None,
        kind: trace.SpanKind,
        attributes: Mapping[str, AttributeValue] | None,
    ) -> None:
        self._tracer = tracer
        self._name = name
        self._parent = parent
        self._kind = kind
        self._attributes = dict(attributes or {})
        self._span: trace.Span = trace.INVALID_SPAN
        self.outer: Span | None = None
        self.ended = False

    def __enter__(self) -> Self:
        self.outer = current_span()
        if self._parent is None and self.outer is not None and self.outer.tenant:
            self._attributes.setdefault(ATTR_TENANT, self.outer.tenant)
        self._span = self._tracer.start_span(
            self._name, context=self._parent_context(), kind=self._kind, attributes=self._attributes
        )
        _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._record(error)
        self.ended = True
        self._span.end()
        if _current.get() is self:
            _current.set(self.outer)

    def set_attribute(self, name: str, value: AttributeValue) -> None:
        """Ignored once the span has ended."""
        if not self.ended:
            self._span.set_attribute(name, value)

    def add_event(self, name: str, attributes: Mapping[str, AttributeValue] | None = None) -> None:
        """Something that happened at one moment; ignored once the span has ended."""
        if not self.ended:
            self._span.add_event(name, attributes)

    @property
    def tenant(self) -> str:
        """Empty for work of nobody in particular."""
        return str(self._attributes.get(ATTR_TENANT, ""))

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return trace.format_trace_id(self._span.get_span_context().trace_id)

    @property
    def span_id(self) -> str:
        """16 hex digits."""
        return trace.format_span_id(self._span.get_span_context().span_id)

    @property
    def traceparent(self) -> str:
        """W3C trace context, version 00: what a message carries so that the receiver's spans become children."""
        return f"00-{self.trace_id}-{self.span_id}-{self._span.get_span_context().trace_flags:02x}"

    def _parent_context(self) -> Context:
        if self._parent is not None:
            return TraceContextTextMapPropagator().extract({"traceparent": self._parent}, context=Context())
        if self.outer is None:
            return Context()
        return trace.set_span_in_context(self.outer._span, Context())

    def _record(self, error: BaseException) -> None:
        self._span.set_attribute(ATTR_ERROR_TYPE, error.code if isinstance(error, MoontideError) else _name(error))
        if isinstance(error, asyncio.CancelledError | GeneratorExit | Cancelled):
            self._span.set_attribute(ATTR_SPAN_CANCELLED, True)
            return
        self._span.set_status(StatusCode.ERROR, str(error)[:MAX_STATUS_CHARACTERS])
        if not isinstance(error, MoontideError) and isinstance(error, Exception):
            self._span.record_exception(error)


def _name(error: BaseException) -> str:
    return type(error).__qualname__
