"""A job ends in one outcome, the same however often and by whomever it is delivered."""

import asyncio
import time
from pathlib import Path

import pytest

from schemas import names
from schemas.codec import decode, encode
from schemas.telemetry import ATTR_FAILURE_CODE, tool_span
from schemas.tools import ToolFinished, ToolsListed, ToolsQuery, WorkspaceTree
from services.tools.content import MAX_CHARACTERS
from services.tools.execution import refused
from services.tools.files import ReadFile, WriteFile
from services.tools.handlers import OUTCOMES, STARTS, ListTools
from services.tools.registry import Registry
from services.tools.tool import Call, Result, said
from shared.errors import BadInput, Unavailable
from tests.unit.tools.desk import Desk, Scripted, progress, text
from tests.waiting import until


async def at_once(call: Call) -> Result:
    return said(f"n is {call.arguments.get('n')}")


async def never(call: Call) -> Result:
    call.progress("waiting for ever")
    await asyncio.get_running_loop().create_future()
    raise AssertionError("unreachable")


async def test_a_call_is_answered_kept_and_traced(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Scripted("calc", at_once))
    async with desk.worker():
        outcome = await desk.ask("calc", arguments={"n": 3})
    assert (text(outcome), outcome.failure) == ("n is 3", None)
    kept = await desk.blobs.get_record(OUTCOMES, "run-1-1-0")
    assert kept is not None
    assert decode(kept, ToolFinished) == outcome
    assert len(desk.telemetry.ended(tool_span("calc"))) == 1


async def test_a_second_delivery_runs_nothing(tmp_path: Path) -> None:
    tool = Scripted("calc", at_once)
    desk = Desk(tmp_path, tool)
    async with desk.worker():
        first = await desk.ask("calc", arguments={"n": 1})
    async with desk.worker():
        second = await desk.ask("calc", arguments={"n": 2})
    assert second == first
    assert len(tool.calls) == 1


async def test_the_first_outcome_of_two_workers_at_once_is_everybodys(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Scripted("calc", at_once))
    desk.registry.find("calc")
    async with desk.worker():
        other = refused("run-1-1-0", BadInput("other", "another worker was faster"))
        await desk.blobs.keep_record(OUTCOMES, "run-1-1-0", encode(other))
        assert await desk.ask("calc") == other


@pytest.mark.parametrize(
    ("tool", "arguments", "code"),
    [("calk", {}, "tool.unknown"), ("calc", {"n": "x"}, "tool.arguments"), ("calc", {"m": 1}, "tool.arguments")],
)
async def test_calls_that_cannot_be_are_told_so(tmp_path: Path, tool: str, arguments: dict, code: str) -> None:
    calc = Scripted("calc", at_once)
    desk = Desk(tmp_path, calc)
    async with desk.worker():
        outcome = await desk.ask(tool, arguments=arguments)
    assert outcome.failure is not None
    assert outcome.failure.code == code
    assert text(outcome) == f"error: {outcome.failure.message}"
    assert calc.calls == []
    assert desk.telemetry.ended(tool_span(tool))[0].attributes[ATTR_FAILURE_CODE] == code


async def test_a_tool_that_is_on_its_way_is_waited_for(tmp_path: Path) -> None:
    """Its server may not have answered this process yet."""
    desk = Desk(tmp_path)
    async with desk.worker():
        asking = asyncio.create_task(desk.ask("calc", arguments={"n": 3}))
        await asyncio.sleep(0.1)
        desk.registry.add(Scripted("calc", at_once))
        assert text(await asking) == "n is 3"


async def test_progress_is_told_twice_a_second(tmp_path: Path) -> None:
    async def slow(call: Call) -> Result:
        call.progress("counting")
        await asyncio.sleep(1.2)
        return said("done")

    desk = Desk(tmp_path, Scripted("calc", slow))
    async with desk.worker():
        told = progress(await desk.heard("calc"))
    assert told[:1] == ["taken"]
    assert told.count("counting") in (2, 3)


async def test_cancelling_takes_effect_within_a_second(tmp_path: Path) -> None:
    tool = Scripted("calc", never)
    desk = Desk(tmp_path, tool)
    async with desk.worker():
        asking = asyncio.create_task(desk.ask("calc"))
        await until(lambda: tool.calls)
        begun = time.monotonic()
        await desk.cancel(reason="the run was stopped")
        outcome = await asking
        assert time.monotonic() - begun < 1
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.message) == ("tool.cancelled", "the run was stopped")


async def test_time_is_bounded_by_the_tool_and_by_the_run(tmp_path: Path) -> None:
    desk = Desk(tmp_path, Scripted("slow", never, timeout_seconds=0.2), Scripted("late", never))
    async with desk.worker():
        slow, late = await desk.ask("slow", "a"), await desk.ask("late", "b", seconds=0.2)
    assert slow.failure is not None
    assert late.failure is not None
    assert (slow.failure.code, late.failure.code) == ("tool.timeout", "tool.deadline")


async def test_what_may_pass_is_tried_three_times_and_then_told(tmp_path: Path) -> None:
    async def away(call: Call) -> Result:
        raise Unavailable("search.away", "the search is away", retry_after_seconds=0.01)

    tool = Scripted("calc", away)
    desk = Desk(tmp_path, tool)
    async with desk.worker():
        outcome = await desk.ask("calc")
    assert outcome.failure is not None
    assert (outcome.failure.code, len(tool.calls)) == ("search.away", 3)


async def test_our_own_mistakes_end_in_an_answer(tmp_path: Path) -> None:
    async def broken(call: Call) -> Result:
        raise ZeroDivisionError

    desk = Desk(tmp_path, Scripted("calc", broken))
    async with desk.worker():
        outcome = await desk.ask("calc")
    assert outcome.failure is not None
    assert outcome.failure.code == "tools.parked"
    assert await desk.blobs.get_record(OUTCOMES, "run-1-1-0") is not None


async def test_an_effect_outside_is_not_tried_again_and_a_repetition_is_told(tmp_path: Path) -> None:
    tool = Scripted("post", at_once, effect="outside")
    desk = Desk(tmp_path, tool)
    async with desk.worker():
        once = await desk.ask("post", "a")
        await desk.blobs.put_record(STARTS, "b", b"a worker that died in the middle")
        again = await desk.ask("post", "b")
    assert (once.possibly_repeated, again.possibly_repeated) == (False, True)
    assert [call.repeated for call in tool.calls] == [False, True]


async def test_a_failed_effect_outside_is_over(tmp_path: Path) -> None:
    async def away(call: Call) -> Result:
        raise Unavailable("post.away", "it did not answer")

    tool = Scripted("post", away, effect="outside")
    desk = Desk(tmp_path, tool)
    async with desk.worker():
        outcome = await desk.ask("post")
    assert outcome.failure is not None
    assert (outcome.failure.code, len(tool.calls)) == ("post.away", 1)


async def test_bytes_that_are_no_job_are_parked_and_answered(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    outcomes = await desk.bus.subscribe(names.tool_outcome("odd"))
    async with desk.worker():
        await desk.bus.enqueue(names.tool_requested("odd"), b"\xc1", message_id="odd")
        data = await outcomes.next(10)
    assert data is not None
    assert decode(data, ToolFinished).failure.code == "tools.malformed"  # type: ignore[union-attr]


async def test_lost_acknowledgements_change_nothing_twice(tmp_path: Path) -> None:
    desk = Desk(tmp_path, WriteFile(), ReadFile(), duplicate=0.5)
    workspace = None
    async with desk.worker(1), desk.worker(1):
        for number in range(8):
            arguments = {"path": f"f{number}", "content": str(number)}
            outcome = await desk.ask("write_file", f"w-{number}", arguments=arguments, workspace=workspace)
            workspace = outcome.workspace
        read = await desk.ask("read_file", "r", arguments={"path": "f0"}, workspace=workspace)
    assert text(read) == "0"
    assert (read.workspace, workspace is None) == (None, False)
    assert workspace is not None
    tree = decode(await desk.blobs.get(workspace), WorkspaceTree)
    assert [file.path for file in tree.files] == [f"f{number}" for number in range(8)]


async def test_a_failed_call_leaves_the_workspace_as_it_was(tmp_path: Path) -> None:
    async def half(call: Call) -> Result:
        assert call.workspace is not None
        (call.workspace / "half").write_text("done")
        raise BadInput("tool.failed", "in the middle")

    async def look(call: Call) -> Result:
        assert call.workspace is not None
        return said(str(sorted(path.name for path in call.workspace.iterdir())))

    desk = Desk(tmp_path, Scripted("half", half, workspace="write"), Scripted("look_around", look, workspace="read"))
    async with desk.worker():
        assert (await desk.ask("half", "a")).workspace is None
        assert text(await desk.ask("look_around", "b")) == "[]"


async def test_long_outputs_are_cut_for_the_model_and_whole_for_people(tmp_path: Path) -> None:
    whole = "".join(f"line {number}\n" for number in range(20_000))

    async def talks(call: Call) -> Result:
        return said(whole)

    desk = Desk(tmp_path, Scripted("calc", talks))
    async with desk.worker():
        outcome = await desk.ask("calc")
    read = text(outcome)
    assert len(read) < MAX_CHARACTERS + 200
    assert read.startswith("line 0\n")
    assert read.endswith("line 19999\n")
    assert "characters left out here; people find the whole as output.txt" in read
    assert await desk.blobs.get(outcome.files[0].content) == whole.encode()


async def test_the_list_is_what_the_registry_says() -> None:
    tool = Scripted("calc", at_once)
    answer = await ListTools(Registry([tool])).answer(encode(ToolsQuery()))
    assert decode(answer, ToolsListed).tools == (tool.declaration,)
