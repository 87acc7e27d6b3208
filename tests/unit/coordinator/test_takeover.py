"""Coordinators that die at random moments, in virtual time: the ledger stays legal, results stay the same, and nothing
is done or paid twice. And the wrong order, planted, is noticed.
"""

import asyncio
import random

import pytest

from schemas.runs import LeaseTaken, ModelAnswered, ModelAsked, RunEnded, ToolAnswered, ToolAsked
from schemas.tools import ToolFinished, ToolJob
from services.coordinator.config import CoordinatorConfig
from services.coordinator.order import Act, Order, Record
from services.coordinator.ownership import MAX_FRUITLESS_TERMS
from shared.bus.fake import FakeBus
from shared.errors import NotFound
from shared.ledger.journal import Ledger
from tests.integration.coordinator.scripted import (
    Say,
    ScriptedModel,
    ScriptedTools,
    call,
    in_turn,
    notes,
    standard_tools,
)
from tests.unit.coordinator.harbour import Harbour, Mortal, sail

STEPS = 5
KILLS = 4
RESULT = b"".join(f'{{"n":{n}}}\n'.encode() for n in range(STEPS))


def mission(rng: random.Random) -> list[Say]:
    """Reads and writes in each step."""
    steps = [
        Say(
            calls=(call("look_up", f'{{"n":{n}}}', 2 * n), call("note", f'{{"n":{n}}}', 2 * n + 1)),
            seconds=rng.uniform(0.0, 2.0),
        )
        for n in range(STEPS)
    ]
    return [*steps, Say("Done.", seconds=rng.uniform(0.0, 2.0))]


def leisurely(harbour: Harbour, rng: random.Random) -> ScriptedTools:
    """The standard tools, each call taking its time."""
    tools = standard_tools(harbour.bus, harbour.blobs)

    def slowed(name: str) -> None:
        work = tools.work[name]

        async def slow(job: ToolJob) -> ToolFinished:
            await asyncio.sleep(rng.uniform(0.0, 2.0))
            return await work(job)

        tools.work[name] = slow

    for name in ("look_up", "note"):
        slowed(name)
    return tools


async def storm(harbour: Harbour, rng: random.Random, first: Mortal, order: Order | None = None) -> None:
    """Whoever is there dies, and another one comes."""
    doomed = first
    for _ in range(KILLS):
        await harbour.clock.sleep(rng.uniform(0.1, 9.0))
        doomed.kill()
        doomed = await harbour.mortal(order=order)


async def check(harbour: Harbour, run_id: str, model: ScriptedModel, tools: ScriptedTools) -> None:
    summary = await harbour.ended(run_id, timeout_seconds=600.0)
    assert summary.status == "finished", summary.failure
    assert await harbour.answer(summary) == "Done."
    assert await notes(harbour.blobs, summary.workspace) == RESULT
    assert set(tools.worked.values()) == {1}, "every call was worked on once"
    assert [event.step for event in await harbour.events(run_id, ModelAnswered)] == list(range(1, STEPS + 2))
    asked = [event.call_id for event in await harbour.events(run_id, ToolAsked)]
    assert sorted(asked) == sorted(event.call_id for event in await harbour.events(run_id, ToolAnswered))
    assert len(set(asked)) == len(asked) == 2 * STEPS
    assert len(await harbour.events(run_id, RunEnded)) == 1
    assert len(model.asked) <= len(await harbour.events(run_id, ModelAsked)), "no call without its intent"
    state = await Ledger(harbour.bus, harbour.clock).state(run_id)
    assert state.ended


@pytest.mark.parametrize("seed", range(6))
def test_a_run_is_the_same_however_often_its_owner_dies(seed: int) -> None:
    async def test(harbour: Harbour) -> None:
        rng = random.Random(seed)
        harbour.broker.lose_appends = rng.choice([0.0, 0.1])
        model = await harbour.model(in_turn(*mission(rng)))
        tools = await harbour.tools(leisurely(harbour, rng))
        first = await harbour.mortal()
        run_id = await harbour.start()
        await storm(harbour, rng, first)
        await check(harbour, run_id, model, tools)
        assert (await harbour.get(run_id)).term > 1, "nobody died while it mattered"

    sail(test)


@pytest.mark.parametrize("seed", range(6))
def test_conversations_are_the_same_as_without_deaths(seed: int) -> None:
    """What the model reads at each step does not depend on who asks."""

    async def conversations(harbour: Harbour, disturbed: bool) -> dict[int, list[bytes]]:
        rng = random.Random(seed)
        model = await harbour.model(in_turn(*mission(rng)))
        await harbour.tools(leisurely(harbour, rng))
        first = await harbour.mortal()
        run_id = await harbour.start()
        if disturbed:
            await storm(harbour, rng, first)
        await harbour.ended(run_id, timeout_seconds=600.0)
        shown: dict[int, list[bytes]] = {}
        for request in model.asked:
            messages = [await harbour.blobs.resolve(payload) for payload in request.messages]
            assert shown.setdefault(len(messages), messages) == messages
        return shown

    found: list[dict[int, list[bytes]]] = []

    async def calm(harbour: Harbour) -> None:
        found.append(await conversations(harbour, disturbed=False))

    async def stormy(harbour: Harbour) -> None:
        found.append(await conversations(harbour, disturbed=True))

    sail(calm)
    sail(stormy)
    assert found[0] == found[1]


def test_an_owner_that_hears_nothing_for_a_minute_changes_nothing_when_it_is_back() -> None:
    """Its bus is cut off in the middle of a step: what it goes on to append reaches nobody, or is fenced."""

    async def test(harbour: Harbour) -> None:
        model = await harbour.model(in_turn(*mission(random.Random(1))))
        tools = await harbour.tools(leisurely(harbour, random.Random(1)))
        first = await harbour.mortal()
        run_id = await harbour.start()
        while len(model.asked) < 2:
            await harbour.clock.sleep(0.01)
        cut(first.bus)
        await harbour.mortal()
        await check(harbour, run_id, model, tools)
        before = await harbour.get(run_id)
        first.bus._killed = False
        await harbour.clock.sleep(90.0)
        assert await harbour.get(run_id) == before

    sail(test)


async def act_first(record: Record, act: Act) -> None:
    await act()
    await asyncio.sleep(0.4)
    await record()


def test_an_effect_before_its_intent_is_noticed() -> None:
    noticed: list[int] = []

    def attempt(seed: int) -> None:
        async def test(harbour: Harbour) -> None:
            rng, order = random.Random(seed), Order(effects=act_first)
            model = await harbour.model(in_turn(*mission(rng)))
            tools = await harbour.tools(leisurely(harbour, rng))
            first = await harbour.mortal(order=order)
            run_id = await harbour.start()
            await storm(harbour, rng, first, order)
            try:
                await check(harbour, run_id, model, tools)
            except AssertionError:
                noticed.append(seed)

        sail(test)

    for seed in range(5):
        attempt(seed)
    assert noticed


def test_an_acknowledgement_before_its_append_is_noticed() -> None:
    async def test(harbour: Harbour) -> None:
        late: set[asyncio.Task[None]] = set()

        async def acknowledge_first(record: Record, act: Act) -> None:
            async def later() -> None:
                await asyncio.sleep(0.4)
                await record()

            late.add(asyncio.create_task(later()))
            await act()

        await harbour.model(in_turn(Say("Done.")))
        await harbour.tools()
        broken = await harbour.mortal(order=Order(confirmations=acknowledge_first))
        run_id = await harbour.start()
        broken.kill()
        await harbour.mortal()
        with pytest.raises(NotFound):
            await harbour.get(run_id)
        await asyncio.gather(*late, return_exceptions=True)

    sail(test)


def cut(bus: FakeBus) -> None:
    """As frozen: nothing goes out or comes in, and nobody has told it."""
    bus.kill()


def test_a_run_that_kills_whoever_takes_it_is_ended() -> None:
    async def test(harbour: Harbour) -> None:
        await harbour.model(in_turn(Say("Done.")))
        await harbour.tools()
        first = await harbour.mortal(CoordinatorConfig(max_runs=1))
        blocking = await harbour.start()
        first.kill()
        ledger = Ledger(harbour.bus, harbour.clock)
        for number in range(MAX_FRUITLESS_TERMS + 1):
            state = await ledger.state(blocking)
            term = state.place.term + 1
            writer = ledger.writer(blocking, f"victim-{number}", term, state.last_sequence)
            await writer.append([LeaseTaken(owner=f"victim-{number}", term=term)])
        await harbour.mortal()
        summary = await harbour.ended(blocking)
        assert summary.failure is not None
        assert summary.failure.code == "run.poison"

    sail(test)
