"""What a span promises to the code inside it and to whoever reads its messages."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator

import pytest

from schemas.telemetry import ATTR_ERROR_TYPE, SpanEnded, SpanStarted
from shared.errors import Busy, Cancelled
from shared.telemetry.recording import RecordingTelemetry
from shared.telemetry.span import current_span


@pytest.fixture
def telemetry() -> RecordingTelemetry:
    return RecordingTelemetry(service="tokenizer", instance="tokenizer-7")


def ended(telemetry: RecordingTelemetry, name: str) -> SpanEnded:
    (only,) = telemetry.ended(name)
    return only


def test_start_is_visible_before_the_end_and_the_end_is_complete(telemetry: RecordingTelemetry) -> None:
    with telemetry.span("chat", kind="server", attributes={"a": 1}) as span:
        (start,) = telemetry.messages
        assert isinstance(start, SpanStarted)
        span.set_attribute("b", "two")
        span.add_event("first token", {"position": 3})
    end = ended(telemetry, "chat")
    assert (start.trace_id, start.span_id) == (span.trace_id, span.span_id) == (end.trace_id, end.span_id)
    assert (start.attributes, end.attributes) == ({"a": 1}, {"a": 1, "b": "two"})
    assert (end.service, end.instance, end.kind, end.status) == ("tokenizer", "tokenizer-7", "server", "ok")
    assert end.start_unix_nanoseconds == start.start_unix_nanoseconds <= end.events[0].time_unix_nanoseconds
    assert end.events[0].time_unix_nanoseconds <= end.end_unix_nanoseconds
    assert end.events[0].attributes == {"position": 3}


def test_nested_spans_and_spans_of_other_processes_are_children(telemetry: RecordingTelemetry) -> None:
    other = RecordingTelemetry(service="inference")
    with telemetry.span("outer") as outer, telemetry.span("inner") as inner:
        with other.span("remote", parent=inner.traceparent) as remote:
            assert remote.trace_id == outer.trace_id
        with telemetry.span("alone", parent="") as alone:
            assert alone.trace_id != outer.trace_id
    assert ended(telemetry, "inner").parent_span_id == outer.span_id
    assert ended(other, "remote").parent_span_id == inner.span_id
    assert ended(telemetry, "alone").parent_span_id == ended(telemetry, "outer").parent_span_id == ""


@pytest.mark.parametrize("bad", ["junk", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff-1-2-3", "0" * 9999])
def test_a_bad_traceparent_begins_a_new_trace(telemetry: RecordingTelemetry, bad: str) -> None:
    with telemetry.span("outer") as outer, telemetry.span("chat", parent=bad) as span:
        assert span.trace_id != outer.trace_id
    assert ended(telemetry, "chat").parent_span_id == ""


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (Busy("engine.busy", "full", retry_after_seconds=1.0), "error", "engine.busy"),
        (Cancelled("request.cancelled", "client left"), "cancelled", "request.cancelled"),
        (ValueError("broken"), "error", "ValueError"),
        (asyncio.CancelledError(), "cancelled", "CancelledError"),
        (GeneratorExit(), "cancelled", "GeneratorExit"),
        (KeyboardInterrupt(), "error", "KeyboardInterrupt"),
    ],
)
def test_exceptions_pass_through_and_set_the_status(
    telemetry: RecordingTelemetry, error: BaseException, status: str, error_type: str
) -> None:
    with pytest.raises(type(error)) as raised, telemetry.span("chat"):
        raise error
    assert raised.value is error
    end = ended(telemetry, "chat")
    assert (end.status, end.attributes[ATTR_ERROR_TYPE]) == (status, error_type)
    assert [event.name for event in end.events] == (["exception"] if isinstance(error, ValueError) else [])


async def test_the_current_span_follows_tasks_but_not_between_them(telemetry: RecordingTelemetry) -> None:
    async def work(name: str) -> None:
        with telemetry.span(name):
            await asyncio.sleep(0)
            with telemetry.span(f"{name} inner"):
                await asyncio.sleep(0)

    with telemetry.span("outer") as outer:
        await asyncio.gather(work("a"), work("b"))
    for name in ("a", "b"):
        assert ended(telemetry, name).parent_span_id == outer.span_id
        assert ended(telemetry, f"{name} inner").parent_span_id == ended(telemetry, name).span_id


async def test_an_async_generator_may_be_closed_in_another_task(telemetry: RecordingTelemetry) -> None:
    async def stream() -> AsyncIterator[int]:
        with telemetry.span("stream"):
            yield 1
            yield 2

    generator = stream()
    with telemetry.span("before") as before:
        assert await anext(generator) == 1
        await asyncio.create_task(_close(generator))
        with telemetry.span("after"):
            pass
    assert current_span() is None
    assert ended(telemetry, "stream").status == "cancelled"
    assert ended(telemetry, "after").parent_span_id == before.span_id


async def _close(generator: AsyncIterator[int]) -> None:
    await generator.aclose()  # type: ignore[attr-defined]


def test_a_span_may_end_in_another_context_than_it_began(telemetry: RecordingTelemetry) -> None:
    span = telemetry.span("moved")
    contextvars.copy_context().run(span.__enter__)
    contextvars.copy_context().run(span.__exit__, None, None, None)
    assert ended(telemetry, "moved").status == "ok"


def test_threads_give_the_parent(telemetry: RecordingTelemetry) -> None:
    def work(parent: str) -> None:
        with telemetry.span("in thread", parent=parent), telemetry.span("below"):
            pass

    with telemetry.span("outer") as outer:
        thread = threading.Thread(target=work, args=(outer.traceparent,))
        thread.start()
        thread.join()
    assert ended(telemetry, "in thread").parent_span_id == outer.span_id
    assert ended(telemetry, "below").trace_id == outer.trace_id


def test_an_ended_span_ignores_what_comes_later(telemetry: RecordingTelemetry) -> None:
    with telemetry.span("chat") as span:
        pass
    span.set_attribute("late", 1)
    span.add_event("late")
    assert ended(telemetry, "chat").attributes == {}


def test_every_attribute_value_can_be_read_again(telemetry: RecordingTelemetry) -> None:
    attributes = {"text": "x", "list": [1, 2], "big": 2**80, "nan": float("nan"), "yes": True, "float": 0.5}
    with telemetry.span("chat", attributes=attributes):  # type: ignore[arg-type]
        pass
    assert ended(telemetry, "chat").attributes == {
        "text": "x",
        "list": ("1", "2"),
        "big": str(2**80),
        "nan": "nan",
        "yes": True,
        "float": 0.5,
    }


def test_the_size_of_a_span_is_bounded(telemetry: RecordingTelemetry) -> None:
    with telemetry.span("chat") as span:
        for number in range(300):
            span.set_attribute(f"a{number}", "x" * 100_000)
            span.add_event("event", {f"b{number}": "y" * 100_000 for number in range(20)})
    ((_, start), (_, end)) = telemetry.bus.published or telemetry.drain()
    assert len(start) < 1000
    assert len(end) < 256 * 1024
