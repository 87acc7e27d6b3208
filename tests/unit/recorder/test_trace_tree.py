"""Whatever arrives, in whatever order: one root, no orphan, every span of a dead process closed."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.telemetry import ATTR_SPAN_REPARENTED, SpanEnded, SpanStarted, Trace, TraceSpan
from services.recorder.trace_tree import (
    InstanceState,
    breadth_first,
    build_trace,
    merge,
    signs_of_life,
    under_one_root,
    within,
)

from .messages import SECOND, TRACE, beat, ended, span, started

ALIVE = {"engine-1": InstanceState(last_sign_unix_nanoseconds=0, heard_unix_nanoseconds=100 * SECOND)}


def by_id(trace: Trace) -> dict[str, TraceSpan]:
    return {span.span_id: span for span in trace.spans}


def state(*, sign: float, heard: float, ending: bool = False) -> dict[str, InstanceState]:
    return {
        "engine-1": InstanceState(
            last_sign_unix_nanoseconds=int(sign * SECOND), heard_unix_nanoseconds=int(heard * SECOND), ending=ending
        )
    }


@pytest.mark.parametrize("messages", [[started("a"), ended("a")], [ended("a"), started("a")], [ended("a"), ended("a")]])
def test_the_end_wins_over_the_start(messages: list[SpanStarted | SpanEnded]) -> None:
    assert merge(messages) == [ended("a")]


def test_a_span_runs_while_its_process_beats() -> None:
    (only,) = build_trace(TRACE, [started("a", at=1)], state(sign=1, heard=100), 102 * SECOND).spans
    assert (only.status, only.end_unix_nanoseconds) == ("running", None)


@pytest.mark.parametrize(
    "instances",
    [state(sign=5, heard=100), state(sign=5, heard=103, ending=True)],
    ids=["silent for three seconds", "said goodbye"],
)
def test_a_span_of_a_dead_process_ends_with_its_last_sign_of_life(instances: dict[str, InstanceState]) -> None:
    (only,) = build_trace(TRACE, [started("a", at=1)], instances, 103 * SECOND).spans
    assert (only.status, only.end_unix_nanoseconds) == ("lost", 5 * SECOND)


def test_a_lost_span_never_ends_before_its_start() -> None:
    (early,) = build_trace(TRACE, [started("a", at=9)], state(sign=5, heard=0), 100 * SECOND).spans
    (unknown,) = build_trace(TRACE, [started("a", at=9)], {}, 100 * SECOND).spans
    assert early.end_unix_nanoseconds == unknown.end_unix_nanoseconds == 9 * SECOND


def test_an_end_that_comes_after_all_reopens_the_verdict() -> None:
    (only,) = build_trace(TRACE, [started("a"), ended("a", until=7)], state(sign=5, heard=0), 100 * SECOND).spans
    assert (only.status, only.end_unix_nanoseconds) == ("ok", 7 * SECOND)


def test_a_span_without_parent_is_attached_under_the_root_and_its_children_stay() -> None:
    trace = by_id(
        build_trace(
            TRACE,
            [ended("root"), ended("orphan", "never", at=2), ended("child", "orphan", at=1), ended("second", at=3)],
            ALIVE,
            0,
        )
    )
    assert [trace[id].parent_span_id for id in ("root", "orphan", "child", "second")] == ["", "root", "orphan", "root"]
    flagged = {id for id, span in trace.items() if ATTR_SPAN_REPARENTED in span.attributes}
    assert flagged == {"orphan", "second"}


def test_a_trace_below_a_foreign_span_is_left_alone() -> None:
    trace = build_trace(TRACE, [ended("a", "foreign"), ended("b", "a", at=1)], ALIVE, 0)
    assert [span.parent_span_id for span in trace.spans] == ["foreign", "a"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(-1, 14), st.integers(0, 5), st.booleans()), min_size=1))
def test_any_messages_make_one_tree(rows: list[tuple[int, int, int, bool]]) -> None:
    messages: list[SpanStarted | SpanEnded] = [ended("root", at=3)]
    for number, parent, at, done in rows:
        make = ended if done else started
        messages.append(make(f"s{number}", "" if parent < 0 else f"s{parent}", at=at))
    trace = build_trace(TRACE, messages, {}, 0)
    known = {span.span_id for span in trace.spans}
    roots = [span for span in trace.spans if not span.parent_span_id]
    assert len(roots) == 1
    assert all(span.parent_span_id in known for span in trace.spans if span is not roots[0])
    assert len({span.span_id for _, span in breadth_first(trace.spans)}) == len(trace.spans)
    assert [depth for depth, _ in breadth_first(trace.spans)].count(0) == 1
    assert all(span.end_unix_nanoseconds is not None for span in trace.spans)

    shuffled = list(messages)
    random.Random(len(rows)).shuffle(shuffled)
    if len({message.span_id for message in messages}) == len(messages):
        assert build_trace(TRACE, shuffled, {}, 0) == trace


def test_circles_without_a_root_are_still_listed_once() -> None:
    circle = [span("a", "b"), span("b", "a")]
    assert under_one_root(circle) == circle
    assert [item.span_id for _, item in breadth_first(circle)] == ["a", "b"]


def test_the_newest_sign_of_life_counts_and_a_goodbye_is_kept() -> None:
    signs = signs_of_life([started("a", at=1), beat(at=2, ending=True), ended("b", until=3), beat("gateway-1", at=1)])
    assert (signs["engine-1"].unix_nanoseconds, signs["engine-1"].ending) == (3 * SECOND, True)
    assert (signs["gateway-1"].service, signs["gateway-1"].ending) == ("gateway", False)


def test_an_answer_that_is_too_large_keeps_the_spans_near_the_root() -> None:
    spans = [span("root")] + [span(f"s{n:03}", f"s{n - 1:03}" if n else "root", at=n) for n in range(100)]
    whole = Trace(trace_id=TRACE, spans=tuple(spans))
    assert within(whole, 1_000_000) is whole
    part = within(whole, 5_000)
    assert part.spans == tuple(spans[: len(part.spans)])
    assert 10 < len(part.spans) == 101 - part.omitted_spans < 90
