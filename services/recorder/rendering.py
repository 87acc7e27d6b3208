"""A trace for people (a tree with times, in the terminal) and for programs (JSON).

Input: a ``Trace``. Output: rich renderables or a JSON object. It must not know where the trace comes from.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from schemas.telemetry import ATTR_ERROR_TYPE, Trace, TraceSpan
from services.recorder.trace_tree import breadth_first, children_of

BAR_CELLS = 32
COLOURS = {"ok": "green", "error": "red", "cancelled": "yellow", "lost": "magenta", "running": "cyan"}


def as_json(trace: Trace) -> dict[str, Any]:
    """``{"trace_id", "spans": […]}``: times in Unix nanoseconds, durations in seconds (null while running)."""
    spans = []
    for span in trace.spans:
        fields = msgspec.to_builtins(span)
        spans.append({**fields, "duration_seconds": duration_seconds(span)})
    return {"trace_id": trace.trace_id, "spans": spans, "omitted_spans": trace.omitted_spans}


def duration_seconds(span: TraceSpan) -> float | None:
    if span.end_unix_nanoseconds is None:
        return None
    return (span.end_unix_nanoseconds - span.start_unix_nanoseconds) / 1e9


def as_tree(trace: Trace) -> RenderableType:
    """One line per span, children under their parent: name, service, start, duration, bar, status."""
    begin, end = _extent(trace)
    table = Table.grid(padding=(0, 2))
    for column in ("left", "left", "right", "right", "left", "left"):
        table.add_column(justify=column, no_wrap=True)  # type: ignore[arg-type]
    for guide, span in _lines(trace):
        table.add_row(
            Text(guide, style="dim") + Text(printable(span.name), style="bold"),
            Text(printable(span.service), style="blue"),
            Text(f"+{human_seconds((span.start_unix_nanoseconds - begin) / 1e9)}", style="dim"),
            _human_duration(span),
            Text(bar(span, begin, end), style=COLOURS.get(span.status, "")),
            _status(span),
        )
    title = f"trace {trace.trace_id} · {len(trace.spans)} spans · {human_seconds((end - begin) / 1e9)}"
    more = [Text(f"{trace.omitted_spans} more spans left out", style="dim")] if trace.omitted_spans else []
    return Group(Text(title), table, *more)


def _lines(trace: Trace) -> Iterator[tuple[str, TraceSpan]]:
    """(guide, span) from top to bottom. Its own stack, so that a deep tree cannot exhaust Python's."""
    children = children_of(trace.spans)
    tops = [span for depth, span in breadth_first(trace.spans) if depth == 0]
    seen: set[str] = set()
    stack = [("", "", span) for span in reversed(tops)]
    while stack:
        guide, indent, span = stack.pop()
        if span.span_id in seen:
            continue
        seen.add(span.span_id)
        yield guide, span
        below = children[span.span_id]
        for child in reversed(below):
            last = child is below[-1]
            stack.append((indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  "), child))


def _extent(trace: Trace) -> tuple[int, int]:
    """(first start, last known time), Unix nanoseconds."""
    starts = [span.start_unix_nanoseconds for span in trace.spans]
    ends = [span.end_unix_nanoseconds or span.start_unix_nanoseconds for span in trace.spans]
    return min(starts, default=0), max(starts + ends, default=0)


def bar(span: TraceSpan, begin: int, end: int) -> str:
    """Where the span lies between ``begin`` and ``end``, in ``BAR_CELLS`` cells, at least one of them filled."""
    scale = BAR_CELLS / max(1, end - begin)
    stop = end if span.end_unix_nanoseconds is None else span.end_unix_nanoseconds
    first = min(BAR_CELLS - 1, int((span.start_unix_nanoseconds - begin) * scale))
    last = min(BAR_CELLS, max(first + 1, round((stop - begin) * scale)))
    return "·" * first + "█" * (last - first) + "·" * (BAR_CELLS - last)


def human_seconds(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _human_duration(span: TraceSpan) -> str:
    seconds = duration_seconds(span)
    return "…" if seconds is None else human_seconds(seconds)


def _status(span: TraceSpan) -> Text:
    reason = span.attributes.get(ATTR_ERROR_TYPE, "") if span.status == "error" else ""
    return Text(printable(f"{span.status} {reason}".strip()), style=COLOURS.get(span.status, ""))


def printable(text: str) -> str:
    """Foreign text without control characters: a span's name must not steer the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
