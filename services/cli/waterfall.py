"""A trace as a small waterfall. Pure.

Input: a ``Trace``. Output: HTML rows: what, where, a bar in time, how long.
"""

from collections import defaultdict
from collections.abc import Iterator
from html import escape

from schemas.telemetry import Trace, TraceSpan

MAX_ROWS = 60
MAX_DEPTH = 8
STATUSES = frozenset(("ok", "error", "cancelled", "lost", "running"))


def waterfall(trace: Trace) -> str:
    """A ``<div>``; empty without spans."""
    rows = list(_rows(trace))
    if not rows:
        return ""
    begin = min(span.start_unix_nanoseconds for span in trace.spans)
    length = max(1, max(_end(span) for span in trace.spans) - begin)
    shown = "".join(_row(depth, span, begin, length) for depth, span in rows[:MAX_ROWS])
    left_out = len(rows) - MAX_ROWS + trace.omitted_spans if len(rows) > MAX_ROWS else trace.omitted_spans
    more = f'<p class="quiet">{left_out} more spans are left out.</p>' if left_out else ""
    return f'<div class="waterfall">{shown}</div>{more}'


def duration_text(seconds: float) -> str:
    """Two or three figures: ``850 µs``, ``12 ms``, ``1.25 s``."""
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _rows(trace: Trace) -> Iterator[tuple[int, TraceSpan]]:
    """(depth, span): children under their parent, by start; every span once, whatever its parent says."""
    ids = {span.span_id for span in trace.spans}
    children: dict[str, list[TraceSpan]] = defaultdict(list)
    for span in trace.spans:
        children[span.parent_span_id if span.parent_span_id in ids else ""].append(span)
    stack = [(0, span) for span in reversed(children[""])]
    while stack:
        depth, span = stack.pop()
        yield depth, span
        stack += [(depth + 1, child) for child in reversed(children.pop(span.span_id, []))]


def _row(depth: int, span: TraceSpan, begin: int, length: int) -> str:
    left = (span.start_unix_nanoseconds - begin) / length * 100
    width = (_end(span) - span.start_unix_nanoseconds) / length * 100
    status = span.status if span.status in STATUSES else "ok"
    note = "" if status == "ok" else f' <em class="{status}">{status}</em>'
    return (
        f'<div class="name" style="padding-left:{min(depth, MAX_DEPTH) * 0.9:.1f}em">{escape(span.name)}'
        f" <small>{escape(span.service)}</small>{note}</div>"
        f'<div class="track"><i class="{status}" style="left:{left:.2f}%;width:{max(0.0, width):.2f}%"></i></div>'
        f'<div class="length">{duration_text((_end(span) - span.start_unix_nanoseconds) / 1e9)}</div>'
    )


def _end(span: TraceSpan) -> int:
    return max(span.start_unix_nanoseconds, span.end_unix_nanoseconds or 0)
