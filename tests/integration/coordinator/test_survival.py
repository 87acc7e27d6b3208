"""Coordinators killed, frozen, drained: the run goes on elsewhere, and nothing is done or paid twice."""

import asyncio
import random
import signal
import time

import pytest

from schemas.runs import LeaseTaken, ModelAnswered, ModelAsked, ToolAnswered, ToolAsked
from tests.integration.coordinator.scripted import Say, ScriptedModel, ScriptedTools, call, in_turn, notes
from tests.integration.coordinator.stage import Coordinator, Stage
from tests.waiting import until

STEPS = 6
TAKEOVER_SECONDS = 10.0
HANDOVER_SECONDS = 3.0
"""Less than a lease lasts. Both on a machine that does other things too."""


def mission() -> list[Say]:
    """Reads and writes in each step, a little slow, so that there is always something to interrupt."""
    steps = [
        Say(calls=(call("look_up", f'{{"n":{n}}}', 2 * n), call("note", f'{{"n":{n}}}', 2 * n + 1)), seconds=0.1)
        for n in range(STEPS)
    ]
    return [*steps, Say("Done.")]


RESULT = b"".join(f'{{"n":{n}}}\n'.encode() for n in range(STEPS))


async def neighbours(stage: Stage) -> tuple[ScriptedModel, ScriptedTools]:
    return await stage.model(in_turn(*mission())), await stage.tools()


async def check(stage: Stage, run_id: str, model: ScriptedModel, tools: ScriptedTools) -> None:
    """As undisturbed: the same result, every call worked on once, recorded answers asked for once."""
    summary = await stage.ended(run_id)
    assert summary.status == "finished", summary.failure
    assert await stage.answer(summary) == "Done."
    assert await notes(stage.blobs, summary.workspace) == RESULT
    assert set(tools.worked.values()) == {1}
    assert len(tools.worked) == 2 * STEPS
    answered = await stage.events(run_id, ModelAnswered)
    assert [event.step for event in answered] == list(range(1, STEPS + 2))
    asked = await stage.events(run_id, ModelAsked)
    assert len(model.asked) <= len(asked)
    terms = [event.term for event in await stage.events(run_id, LeaseTaken)]
    assert terms == list(range(1, len(terms) + 1))
    asked_calls = [event.call_id for event in await stage.events(run_id, ToolAsked)]
    answered_calls = [event.call_id for event in await stage.events(run_id, ToolAnswered)]
    assert len(set(asked_calls)) == len(asked_calls)
    assert sorted(asked_calls) == sorted(answered_calls)


@pytest.mark.parametrize("seed", range(3))
async def test_a_run_survives_kills_at_any_moment(stage: Stage, seed: int) -> None:
    rng = random.Random(seed)
    model, tools = await neighbours(stage)
    await stage.coordinator()
    run_id = await stage.start()
    doomed = await stage.coordinator()
    for _ in range(3):
        await asyncio.sleep(rng.uniform(0.05, 0.6))
        if (await stage.get(run_id)).status == "finished":
            break
        await doomed.kill()
        doomed = await stage.coordinator()
    await check(stage, run_id, model, tools)


async def test_the_owner_is_killed_and_another_goes_on_within_seconds(stage: Stage) -> None:
    model = await stage.model(in_turn(Say(calls=(call("slow"),)), Say("Done.")))
    tools = await stage.tools()
    owner = await stage.coordinator()
    run_id = await stage.start()
    await until(lambda: tools.running)
    await stage.coordinator()
    await owner.kill()
    began = time.monotonic()
    await stage.taken_over(run_id)
    assert time.monotonic() - began < TAKEOVER_SECONDS
    assert len(model.asked) == 1


async def test_an_outcome_that_its_owner_missed_is_read_from_the_record(stage: Stage) -> None:
    await stage.model(in_turn(Say(calls=(call("slow"),)), Say("Done.")))
    tools = await stage.tools()
    owner = await stage.coordinator()
    run_id = await stage.start()
    await until(lambda: tools.running)
    await owner.kill()
    tools.gate.set()
    await until(lambda: not tools.running)
    await stage.coordinator()
    assert (await stage.ended(run_id)).status == "finished"
    assert tools.worked[f"{run_id}-1-0"] == 1


async def test_a_frozen_owner_that_revives_after_its_run_was_taken_changes_nothing(stage: Stage) -> None:
    model, tools = await neighbours(stage)
    frozen = await stage.coordinator()
    run_id = await stage.start()
    await until(lambda: len(model.asked) == 2)
    frozen.send_signal(signal.SIGSTOP)
    await stage.coordinator()
    await check(stage, run_id, model, tools)
    before = await stage.get(run_id)
    frozen.send_signal(signal.SIGCONT)
    await asyncio.sleep(3.0)  # it appends now, or never
    assert await stage.get(run_id) == before
    assert frozen.process.returncode is None, "it serves on"


async def test_a_stopping_coordinator_hands_its_run_over_at_once(stage: Stage) -> None:
    """The best of three is at once: another program may hold any one of them up, a lease that runs out none of them."""
    model = await stage.model(in_turn(Say(calls=(call("slow"), call("look_up", "{}", 1))), Say("Done.")))
    tools = await stage.tools()
    coordinator = await stage.coordinator()
    took_seconds: list[float] = []
    while not took_seconds or (min(took_seconds) >= HANDOVER_SECONDS and len(took_seconds) < 3):
        coordinator, seconds = await handed_over(stage, coordinator, tools)
        took_seconds.append(seconds)
    assert min(took_seconds) < HANDOVER_SECONDS
    assert len(model.asked) == 2 * len(took_seconds)
    assert set(tools.worked.values()) == {1}
    assert not tools.cancelled, "tools work on while a run changes hands"


async def handed_over(stage: Stage, leaving: Coordinator, tools: ScriptedTools) -> tuple[Coordinator, float]:
    """Who has a run of ``leaving`` after that was told to stop, and how long that took."""
    tools.gate.clear()
    run_id = await stage.start()
    await until(lambda: tools.running == {f"{run_id}-1-0"})
    staying = await stage.coordinator()
    began = time.monotonic()
    leaving.send_signal(signal.SIGTERM)
    await stage.taken_over(run_id)
    seconds = time.monotonic() - began
    assert await leaving.exit_code() == 0
    tools.gate.set()
    assert (await stage.ended(run_id)).status == "finished"
    return staying, seconds


async def test_a_full_coordinator_leaves_wake_ups_to_others(stage: Stage) -> None:
    await stage.model(in_turn(Say("Done.", seconds=1.0)))
    await stage.tools()
    await stage.coordinator(MOONTIDE_COORDINATOR_MAX_RUNS="1")
    await stage.coordinator(MOONTIDE_COORDINATOR_MAX_RUNS="1")
    runs = [await stage.start() for _ in range(4)]
    owners = {(await stage.ended(run_id)).owner for run_id in runs}
    assert len(owners) == 2


async def test_a_stopped_broker_is_survived(stage: Stage) -> None:
    model, tools = await neighbours(stage)
    await stage.coordinator()
    run_id = await stage.start()
    await until(lambda: len(model.asked) == 2)
    await stage.broker.stop()
    await asyncio.sleep(1.0)
    await stage.broker.start()
    summary = await stage.ended(run_id)
    assert summary.status == "finished", summary.failure
    assert await notes(stage.blobs, summary.workspace) == RESULT
    assert set(tools.worked.values()) == {1}
