"""Short ways to write span messages in the tests of this folder."""

from collections.abc import Mapping

from schemas.telemetry import AttributeValue, ProcessBeat, SpanEnded, SpanStarted, TraceSpan

SECOND = 1_000_000_000
TRACE = "a" * 32


def started(
    span: str,
    parent: str = "",
    *,
    at: float = 0.0,
    instance: str = "engine-1",
    trace: str = TRACE,
    attributes: Mapping[str, AttributeValue] | None = None,
) -> SpanStarted:
    return SpanStarted(
        trace_id=trace,
        span_id=span,
        parent_span_id=parent,
        name=f"name of {span}",
        kind="internal",
        service=instance.split("-")[0],
        instance=instance,
        start_unix_nanoseconds=int(at * SECOND),
        attributes=dict(attributes or {}),
    )


def ended(
    span: str,
    parent: str = "",
    *,
    at: float = 0.0,
    until: float = 1.0,
    instance: str = "engine-1",
    trace: str = TRACE,
    status: str = "ok",
    attributes: Mapping[str, AttributeValue] | None = None,
) -> SpanEnded:
    return SpanEnded(
        trace_id=trace,
        span_id=span,
        parent_span_id=parent,
        name=f"name of {span}",
        kind="internal",
        service=instance.split("-")[0],
        instance=instance,
        start_unix_nanoseconds=int(at * SECOND),
        end_unix_nanoseconds=int(until * SECOND),
        status=status,
        attributes=dict(attributes or {}),
    )


def beat(instance: str = "engine-1", *, at: float = 0.0, ending: bool = False) -> ProcessBeat:
    return ProcessBeat(
        service=instance.split("-")[0], instance=instance, time_unix_nanoseconds=int(at * SECOND), ending=ending
    )


def span(id: str, parent: str = "", *, at: float = 0.0, until: float | None = 1.0, status: str = "ok") -> TraceSpan:
    return TraceSpan(
        span_id=id,
        parent_span_id=parent,
        name=f"name of {id}",
        kind="internal",
        service="engine",
        instance="engine-1",
        start_unix_nanoseconds=int(at * SECOND),
        end_unix_nanoseconds=None if until is None else int(until * SECOND),
        status=status,
    )
