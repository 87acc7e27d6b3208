"""Ledgers on the fake bus: accepted once, written by one owner, read and replayed by anybody."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from schemas.runs import (
    LeaseTaken,
    ModelAsked,
    NumberedEntry,
    RunEnded,
    RunOrigin,
)
from shared.bus.fake import FakeBroker
from shared.clock import SystemClock
from shared.errors import BadInput, NotFound, Unavailable
from shared.ledger.journal import Fenced, Ledger, LedgerWriter

from .history import RUN, accepted, answer, ref, result, tool


class FastClock(SystemClock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def ledger_of(broker: FakeBroker) -> Ledger:
    ledger = Ledger(broker.bus("a"), FastClock())
    await ledger.declare()
    return ledger


async def owned(ledger: Ledger, run_id: str = RUN) -> LedgerWriter:
    """As a new owner: replayed, and taken."""
    state = await ledger.state(run_id)
    term = state.place.term + 1
    writer = ledger.writer(run_id, f"owner-{term}", term, state.last_sequence)
    await writer.append([LeaseTaken(owner=f"owner-{term}", term=term)])
    return writer


async def test_a_run_is_accepted_once() -> None:
    ledger = await ledger_of(FakeBroker(1))
    with pytest.raises(NotFound) as unknown:
        await ledger.state(RUN)
    assert unknown.value.code == "run.not_found"
    first = await ledger.accept(accepted())
    assert await ledger.accept(accepted(messages=["another goal"])) == first
    assert (await ledger.state(RUN)).status == "queued"


async def test_what_one_owner_writes_anybody_replays() -> None:
    ledger = await ledger_of(FakeBroker(1))
    await ledger.accept(accepted())
    writer = await owned(ledger)
    await writer.append([ModelAsked(step=1, message_count=1)])
    early = await ledger.state(RUN)
    await writer.append([answer(1, 1), tool(1, 0)])
    await writer.append([result(1, 0)])
    state = await ledger.state(RUN)
    assert [turn.message for turn in state.conversation.turns] == [ref("goal"), ref("answer-1"), ref("result-1-0")]
    assert len(await ledger.catch_up(early)) == 2
    assert early == state
    assert state.last_sequence == writer.last_sequence


async def test_an_owner_that_was_replaced_changes_nothing_any_more() -> None:
    ledger = await ledger_of(FakeBroker(1))
    await ledger.accept(accepted())
    old = await owned(ledger)
    new = await owned(ledger)
    before = [numbered async for numbered in ledger.entries(RUN)]
    for _ in range(2):
        with pytest.raises(Fenced):
            await old.append([ModelAsked(step=1, message_count=1)])
    assert [numbered async for numbered in ledger.entries(RUN)] == before
    await new.append([RunEnded(outcome="finished")])
    assert (await ledger.state(RUN)).status == "finished"


async def test_lost_acknowledgements_leave_each_event_once() -> None:
    """Also when the append itself was lost: it is repeated until its outcome is known."""
    broker = FakeBroker(11, lose_appends=0.0)
    ledger = await ledger_of(broker)
    await ledger.accept(accepted())
    writer = await owned(ledger)
    broker.lose_appends = 0.3
    for step in range(1, 13):
        await writer.append([ModelAsked(step=step, message_count=1), answer(step)])
    broker.lose_appends = 0.0
    assert (await ledger.state(RUN)).step == 12
    assert len([numbered async for numbered in ledger.entries(RUN)]) == 14


async def test_a_fork_begins_with_its_origins_past() -> None:
    ledger = await ledger_of(FakeBroker(1))
    await ledger.accept(accepted())
    writer = await owned(ledger)
    for step in (1, 2):
        await writer.append([ModelAsked(step=step, message_count=1)])
        await writer.append([answer(step, 1), tool(step, 0)])
        await writer.append([result(step, 0, workspace=ref(f"tree-{step}"))])
    await writer.append([ModelAsked(step=3, message_count=1)])
    origin = RunOrigin(run_id=RUN, step=1)
    await ledger.accept(accepted("run-b", messages=["otherwise"], origin=origin))
    fork = await ledger.state("run-b")
    assert (fork.step, fork.workspace, fork.status) == (1, ref("tree-1"), "queued")
    assert [turn.message for turn in fork.conversation.shown()] == [
        ref("goal"),
        ref("answer-1"),
        ref("result-1-0"),
        ref("otherwise"),
    ]
    await ledger.accept(accepted("run-c", messages=[], origin=RunOrigin(run_id="run-b", step=0)))
    assert [turn.message for turn in (await ledger.state("run-c")).conversation.shown()] == [ref("goal")]
    with pytest.raises(BadInput) as incomplete:
        await ledger.past(RunOrigin(run_id=RUN, step=3))
    assert incomplete.value.code == "run.step_incomplete"


async def test_runs_are_listed_with_their_last_entries() -> None:
    ledger = await ledger_of(FakeBroker(1))
    for number in (3, 1, 2):
        await ledger.accept(accepted(f"run-{number}"))
    writer = await owned(ledger, "run-2")
    await writer.append([RunEnded(outcome="cancelled")])
    runs = await ledger.runs()
    assert list(runs) == ["run-1", "run-2", "run-3"]
    assert [type(numbered.entry.events[-1]).__name__ for numbered in runs.values()] == [
        "RunAccepted",
        "RunEnded",
        "RunAccepted",
    ]
    await ledger.forget("run-2")
    assert await ledger.run_ids() == ["run-1", "run-3"]


async def test_a_ledger_that_is_removed_while_it_is_read_ends_the_reading() -> None:
    ledger = await ledger_of(FakeBroker(1))
    await ledger.accept(accepted())
    writer = await owned(ledger)
    await writer.append([ModelAsked(step=1, message_count=1)])
    reading = ledger.entries(RUN)
    first = await ledger.read(RUN, limit=1)
    ledger.read = replica_with(ledger, first)  # type: ignore[method-assign]
    assert await anext(reading) == first[0]
    with pytest.raises(Unavailable) as behind:
        await anext(reading)
    assert behind.value.code == "ledger.behind"
    with pytest.raises(NotFound):
        await ledger.read("run-none")


def replica_with(ledger: Ledger, known: list[NumberedEntry]) -> Callable[..., Awaitable[list[NumberedEntry]]]:
    """Has no more than that."""
    read = ledger.read

    async def behind(run_id: str, after_sequence: int = 0, limit: int = 1) -> list[NumberedEntry]:
        if run_id != RUN:
            return await read(run_id)
        return [numbered for numbered in known if numbered.sequence > after_sequence]

    return behind
