"""OpenTelemetry's span callbacks turned into our span messages.

Input: SDK spans at start and end, on whichever thread they run. Output: ``SpanStarted`` and ``SpanEnded`` to ``emit``.
It must not know where the messages go.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import INVALID_SPAN_CONTEXT, StatusCode, format_span_id, format_trace_id

from schemas.telemetry import ATTR_SPAN_CANCELLED, AttributeValue, SpanEnded, SpanEvent, SpanMessage, SpanStarted

INT64 = range(-(2**63), 2**63)


class MessageProcessor(SpanProcessor):
    def __init__(self, service: str, instance: str, emit: Callable[[SpanMessage], None]) -> None:
        self._service = service
        self._instance = instance
        self._emit = emit

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._emit(SpanStarted(**self._common(span)))

    def on_end(self, span: ReadableSpan) -> None:
        self._emit(
            SpanEnded(
                **self._common(span),
                end_unix_nanoseconds=span.end_time or 0,
                status=status(span),
                status_message=span.status.description or "",
                events=tuple(
                    SpanEvent(
                        name=event.name, time_unix_nanoseconds=event.timestamp, attributes=plain(event.attributes or {})
                    )
                    for event in span.events
                ),
            )
        )

    def _common(self, span: ReadableSpan) -> dict[str, Any]:
        context = span.get_span_context() or INVALID_SPAN_CONTEXT
        return {
            "trace_id": format_trace_id(context.trace_id),
            "span_id": format_span_id(context.span_id),
            "parent_span_id": format_span_id(span.parent.span_id) if span.parent else "",
            "name": span.name,
            "kind": span.kind.name.lower(),
            "service": self._service,
            "instance": self._instance,
            "start_unix_nanoseconds": span.start_time or 0,
            "attributes": plain(span.attributes or {}),
        }


def status(span: ReadableSpan) -> str:
    """``ok``, ``error`` or ``cancelled``."""
    if (span.attributes or {}).get(ATTR_SPAN_CANCELLED):
        return "cancelled"
    return "error" if span.status.status_code is StatusCode.ERROR else "ok"


def plain(attributes: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """Attributes as the schema has them: what neither msgpack nor JSON can hold becomes text."""
    return {key: _plain(value) for key, value in attributes.items()}


def _plain(value: Any) -> AttributeValue:
    match value:
        case bool() | str():
            return value
        case int():
            return value if value in INT64 else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case Sequence() if not isinstance(value, bytes):
            return tuple(str(item) for item in value)
        case _:
            return str(value)
