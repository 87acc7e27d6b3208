"""What people tell a run, and how soon it obeys."""

import asyncio
import time

import pytest

from schemas.runs import (
    DecideTool,
    MessageAdded,
    ModelAsked,
    ModelFailed,
    PauseRun,
    ResumeRun,
    RunOrigin,
    SteerRun,
    StopRun,
    ToolAnswered,
)
from shared.errors import MoontideError, NotFound
from tests.integration.coordinator.scripted import Say, call, in_turn, notes, words
from tests.integration.coordinator.stage import Stage
from tests.waiting import until


async def test_stop_takes_effect_within_a_second_while_the_model_thinks(stage: Stage) -> None:
    model = await stage.model(in_turn(Say("late", seconds=60.0)))
    await stage.tools()
    await stage.coordinator()
    run_id = await stage.start()
    await until(lambda: model.in_flight == 1)
    began = time.monotonic()
    await stage.command(run_id, StopRun(reason="enough"))
    summary = await stage.until(run_id, "cancelled")
    assert time.monotonic() - began < 1.0
    assert summary.failure is not None
    assert (summary.failure.code, summary.failure.message) == ("run.stopped", "enough")
    await until(lambda: model.cancelled == 1, 5.0)


async def test_stop_takes_effect_within_a_second_while_a_tool_works(stage: Stage) -> None:
    await stage.model(in_turn(Say(calls=(call("slow"),)), Say("done")))
    tools = await stage.tools()
    await stage.coordinator()
    run_id = await stage.start()
    await until(lambda: tools.running)
    began = time.monotonic()
    await stage.command(run_id, StopRun())
    await stage.until(run_id, "cancelled")
    assert time.monotonic() - began < 1.0
    await until(lambda: tools.cancelled == {f"{run_id}-1-0"}, 5.0)
    with pytest.raises(MoontideError, match="cancelled"):
        await stage.command(run_id, StopRun())


async def test_a_steering_message_reaches_the_model_before_its_next_call(stage: Stage) -> None:
    model = await stage.model(in_turn(Say(calls=(call("look_up"),), seconds=0.5), Say("done")))
    await stage.tools()
    await stage.coordinator()
    run_id = await stage.start()
    await until(lambda: model.in_flight == 1)
    await stage.command(run_id, SteerRun(message=await stage.message("Be brief.")))
    await stage.ended(run_id)
    assert [message.role for message in model.conversations[1]] == ["system", "user", "assistant", "tool", "user"]
    assert words(model.conversations[1][-1]) == "Be brief."


async def test_steering_during_the_last_answer_keeps_the_run_going(stage: Stage) -> None:
    model = await stage.model(in_turn(Say("first", seconds=0.5), Say("second")))
    await stage.tools()
    await stage.coordinator()
    run_id = await stage.start()
    await until(lambda: model.in_flight == 1)
    await stage.command(run_id, SteerRun(message=await stage.message("And more?")))
    summary = await stage.ended(run_id)
    assert await stage.answer(summary) == "second"


async def test_an_interrupt_gives_up_the_call_in_flight(stage: Stage) -> None:
    asked: list[int] = []

    def script(messages: list) -> Say:
        asked.append(len(messages))
        return Say("quick") if words(messages[-1]) == "Hurry." else Say("slow", seconds=60.0)

    model = await stage.model(script)
    await stage.tools()
    await stage.coordinator()
    run_id = await stage.start()
    await until(lambda: model.in_flight == 1)
    await stage.command(run_id, SteerRun(message=await stage.message("Hurry."), interrupt=True))
    summary = await stage.ended(run_id)
    assert await stage.answer(summary) == "quick"
    assert asked == [2, 3]
    failed = await stage.events(run_id, ModelFailed)
    assert [event.failure.code for event in failed] == ["run.interrupted"]
    assert [(event.step, event.attempt) for event in await stage.events(run_id, ModelAsked)] == [(1, 1), (1, 2)]


async def test_a_paused_run_finishes_what_is_in_flight_and_begins_nothing(stage: Stage) -> None:
    model = await stage.model(in_turn(Say(calls=(call("look_up"),), seconds=0.5), Say("done")))
    tools = await stage.tools()
    await stage.coordinator()
    run_id = await stage.start()
    await until(lambda: model.in_flight == 1)
    await stage.command(run_id, PauseRun())
    await stage.until(run_id, "paused")
    await until(lambda: model.in_flight == 0)
    await asyncio.sleep(1.0)  # time enough to do what must not be done
    assert (len(model.asked), len(tools.jobs)) == (1, 0)
    await stage.command(run_id, ResumeRun())
    assert (await stage.ended(run_id)).status == "finished"


async def test_a_call_that_needs_approval_waits_where_people_see_it(stage: Stage) -> None:
    model = await stage.model(in_turn(Say(calls=(call("launch", "{}", 0), call("look_up", "{}", 1))), Say("done")))
    tools = await stage.tools()
    await stage.coordinator()
    run_id = await stage.start()
    summary = await stage.until(run_id, "waiting")
    assert [(pending.call_id, pending.tool) for pending in summary.approvals] == [(f"{run_id}-1-0", "launch")]
    assert summary.waiting is not None
    assert summary.waiting.code == "run.approval"
    await until(lambda: tools.worked[f"{run_id}-1-1"] == 1)
    assert tools.worked[f"{run_id}-1-0"] == 0
    await stage.command(run_id, DecideTool(call_id=f"{run_id}-1-0", approved=True))
    assert (await stage.ended(run_id)).status == "finished"
    assert [words(message) for message in model.conversations[-1] if message.role == "tool"] == ["launched", "found {}"]


async def test_a_denied_call_is_answered_in_words_and_never_run(stage: Stage) -> None:
    model = await stage.model(in_turn(Say(calls=(call("look_up"),)), Say("done")))
    tools = await stage.tools()
    await stage.coordinator()
    run_id = await stage.start(approvals=("look_up",))
    await stage.until(run_id, "waiting")
    await stage.command(run_id, DecideTool(call_id=f"{run_id}-1-0", approved=False, note="not today"))
    assert (await stage.ended(run_id)).status == "finished"
    assert "not today" in words(model.conversations[-1][-1])
    assert not tools.jobs
    (answered,) = await stage.events(run_id, ToolAnswered)
    assert answered.failure.code == "tool.denied"


async def test_a_fork_has_conversation_and_workspace_of_its_step(stage: Stage) -> None:
    def script(messages: list) -> Say:
        last = words(messages[-1])
        if last == "Another way.":
            return Say(calls=(call("note", '{"line":"b"}'),))
        given = sum(message.role == "assistant" for message in messages)
        return Say(calls=(call("note", f'{{"line":{given + 1}}}', given),)) if given < 2 else Say("done")

    model = await stage.model(script)
    await stage.tools()
    await stage.coordinator()
    origin = await stage.start()
    done = await stage.ended(origin)
    assert await notes(stage.blobs, done.workspace) == b'{"line":1}\n{"line":2}\n'
    spec = await stage.spec("Another way.")
    forked = await stage.submit(spec, origin=RunOrigin(run_id=origin, step=1))
    summary = await stage.ended(forked.run_id)
    assert summary.status == "finished"
    assert await notes(stage.blobs, summary.workspace) == b'{"line":1}\n{"line":"b"}\n'
    assert [message.role for message in model.conversations[3]] == ["system", "user", "assistant", "tool", "user"]
    again = await stage.get(origin)
    assert again.last_sequence == done.last_sequence


async def test_runs_of_another_tenant_are_not_there(stage: Stage) -> None:
    await stage.model(in_turn(Say("done")))
    await stage.tools()
    await stage.coordinator()
    run_id = await stage.start()
    await stage.ended(run_id)
    absent = f"{run_id[:-4]}0000"
    messages = []
    hello, spec = SteerRun(message=await stage.message("hello")), await stage.spec()
    for wanted in (run_id, absent):
        with pytest.raises(NotFound) as refused:
            await stage.get(wanted, tenant="other")
        messages.append(refused.value.message.replace(wanted, "X"))
        with pytest.raises(NotFound):
            await stage.entries(wanted, tenant="other")
        with pytest.raises(NotFound):
            await stage.command(wanted, hello, tenant="other")
        with pytest.raises(NotFound):
            await stage.submit(spec, origin=RunOrigin(run_id=wanted, step=1), tenant="other")
    assert messages[0] == messages[1]
    assert (await stage.listed(tenant="other")).runs == ()
    assert [summary.run_id for summary in (await stage.listed()).runs] == [run_id]
    assert not await stage.events(run_id, MessageAdded)


async def test_a_run_is_accepted_once_however_often_it_is_sent(stage: Stage) -> None:
    model = await stage.model(in_turn(Say("done", seconds=0.3)))
    await stage.tools()
    await stage.coordinator()
    spec = await stage.spec()
    first = await stage.submit(spec)
    again = await asyncio.gather(*(stage.submit(spec, run_id=first.run_id) for _ in range(5)))
    assert {summary.run_id for summary in again} == {first.run_id}
    await stage.ended(first.run_id)
    assert len(model.asked) == 1
    with pytest.raises(MoontideError, match="cannot be used"):
        await stage.submit(spec, run_id=first.run_id, tenant="other")
