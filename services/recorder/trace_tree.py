"""From span messages to one tree: starts and ends merged, dead processes' spans closed, every span under one root.

Input: the messages of a trace, what is known of the instances that sent them, the time. Output: a ``Trace``.
Pure: it must not know where messages are kept or how a tree is shown.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from schemas import codec
from schemas.telemetry import ATTR_SPAN_REPARENTED, ProcessBeat, SpanEnded, SpanMessage, SpanStarted, Trace, TraceSpan

SILENCE_NANOSECONDS = 3_000_000_000
"""Beats come every second; an instance that is silent for this long has died."""


class SignOfLife(msgspec.Struct, frozen=True, kw_only=True):
    """The newest thing an instance said. ``ending``: it said goodbye; None when the message does not tell."""

    service: str
    unix_nanoseconds: int
    """By the instance's clock, comparable with the times of its spans only."""
    ending: bool | None = None


class InstanceState(msgspec.Struct, frozen=True, kw_only=True):
    """What the recorder knows of a process."""

    last_sign_unix_nanoseconds: int
    """By the instance's clock."""
    heard_unix_nanoseconds: int
    """By the recorder's clock: the two are never compared with each other."""
    ending: bool = False

    def alive(self, now_unix_nanoseconds: int) -> bool:
        return not self.ending and now_unix_nanoseconds - self.heard_unix_nanoseconds < SILENCE_NANOSECONDS


def signs_of_life(messages: Iterable[SpanMessage]) -> dict[str, SignOfLife]:
    """The newest sign of each instance in a batch."""
    newest: dict[str, SignOfLife] = {}
    for message in messages:
        sign = sign_of_life(message)
        known = newest.get(message.instance)
        if known is None or sign.unix_nanoseconds >= known.unix_nanoseconds:
            if sign.ending is None and known is not None:
                sign = msgspec.structs.replace(sign, ending=known.ending)
            newest[message.instance] = sign
    return newest


def sign_of_life(message: SpanMessage) -> SignOfLife:
    match message:
        case ProcessBeat():
            return SignOfLife(
                service=message.service, unix_nanoseconds=message.time_unix_nanoseconds, ending=message.ending
            )
        case SpanEnded():
            return SignOfLife(service=message.service, unix_nanoseconds=message.end_unix_nanoseconds)
        case SpanStarted():
            return SignOfLife(service=message.service, unix_nanoseconds=message.start_unix_nanoseconds)


def build_trace(
    trace_id: str,
    messages: Iterable[SpanStarted | SpanEnded],
    instances: Mapping[str, InstanceState],
    now_unix_nanoseconds: int,
) -> Trace:
    """The trace as of now. Message order and repetition make no difference."""
    spans = [_span(message, instances, now_unix_nanoseconds) for message in merge(messages)]
    spans.sort(key=lambda span: (span.start_unix_nanoseconds, span.span_id))
    return Trace(trace_id=trace_id, spans=tuple(under_one_root(spans)))


def merge(messages: Iterable[SpanStarted | SpanEnded]) -> list[SpanStarted | SpanEnded]:
    """One message per span: the end where there is one, since it is complete in itself."""
    merged: dict[str, SpanStarted | SpanEnded] = {}
    for message in messages:
        if isinstance(message, SpanEnded) or message.span_id not in merged:
            merged[message.span_id] = message
    return list(merged.values())


def _span(message: SpanStarted | SpanEnded, instances: Mapping[str, InstanceState], now: int) -> TraceSpan:
    end, status = _end_of(message, instances.get(message.instance), now)
    return TraceSpan(
        span_id=message.span_id,
        parent_span_id=message.parent_span_id,
        name=message.name,
        kind=message.kind,
        service=message.service,
        instance=message.instance,
        start_unix_nanoseconds=message.start_unix_nanoseconds,
        end_unix_nanoseconds=end,
        status=status,
        status_message=message.status_message if isinstance(message, SpanEnded) else "",
        attributes=message.attributes,
        events=message.events if isinstance(message, SpanEnded) else (),
    )


def _end_of(message: SpanStarted | SpanEnded, instance: InstanceState | None, now: int) -> tuple[int | None, str]:
    """(end, status). A process that died has ended its spans with its last sign of life."""
    if isinstance(message, SpanEnded):
        return message.end_unix_nanoseconds, message.status
    if instance is None:
        return message.start_unix_nanoseconds, "lost"
    if instance.alive(now):
        return None, "running"
    return max(message.start_unix_nanoseconds, instance.last_sign_unix_nanoseconds), "lost"


def under_one_root(spans: Sequence[TraceSpan]) -> list[TraceSpan]:
    """``spans`` (sorted by start) with everything that does not lead up to the first root attached under it and
    flagged. Without any root nothing is changed: the trace then hangs under a caller's span that is not ours."""
    root = next((span for span in spans if not span.parent_span_id), None)
    if root is None:
        return list(spans)
    parents = _rooted_parents(spans, root)
    return [
        span if parents[span.span_id] == span.parent_span_id else _reparented(span, parents[span.span_id])
        for span in spans
    ]


def _rooted_parents(spans: Sequence[TraceSpan], root: TraceSpan) -> dict[str, str]:
    """Span id → parent id, such that every way up ends at the root (also out of a circle)."""
    parents = {span.span_id: span.parent_span_id for span in spans}
    rooted = {root.span_id}
    for span in spans:
        way: dict[str, None] = {}
        node = span.span_id
        while node in parents and node not in rooted and node not in way:
            way[node] = None
            node = parents[node]
        if node not in rooted:
            parents[next(reversed(way))] = root.span_id
        rooted.update(way)
    return parents


def _reparented(span: TraceSpan, parent_span_id: str) -> TraceSpan:
    return msgspec.structs.replace(
        span, parent_span_id=parent_span_id, attributes={**span.attributes, ATTR_SPAN_REPARENTED: True}
    )


def breadth_first(spans: Sequence[TraceSpan]) -> list[tuple[int, TraceSpan]]:
    """(depth, span), parents before children. Spans whose parent is not among them, and circles, begin at depth 0."""
    known = {span.span_id for span in spans}
    children = children_of(spans)
    level = [span for span in spans if span.parent_span_id not in known]
    seen: set[str] = set()
    ordered: list[tuple[int, TraceSpan]] = []
    depth = 0
    while level:
        fresh = [span for span in level if span.span_id not in seen]
        seen.update(span.span_id for span in fresh)
        ordered += [(depth, span) for span in fresh]
        level = [child for span in fresh for child in children[span.span_id]]
        depth += 1
    return ordered + [(0, span) for span in spans if span.span_id not in seen]


def children_of(spans: Iterable[TraceSpan]) -> defaultdict[str, list[TraceSpan]]:
    children: defaultdict[str, list[TraceSpan]] = defaultdict(list)
    for span in spans:
        children[span.parent_span_id].append(span)
    return children


def within(trace: Trace, max_bytes: int) -> Trace:
    """The trace, or as many of its spans from the root down as ``max_bytes`` of msgpack hold."""
    room = max_bytes - len(codec.encode(Trace(trace_id=trace.trace_id, spans=())))
    kept: set[str] = set()
    for _, span in breadth_first(trace.spans):
        room -= len(codec.encode(span))
        if room < 0:
            break
        kept.add(span.span_id)
    if len(kept) == len(trace.spans):
        return trace
    spans = tuple(span for span in trace.spans if span.span_id in kept)
    return Trace(trace_id=trace.trace_id, spans=spans, omitted_spans=len(trace.spans) - len(spans))
