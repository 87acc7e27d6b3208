"""A real coordinator's ledgers, records and blobs hold together, also after owners were killed."""

import asyncio

from schemas import names
from shared.clock import SystemClock
from shared.ledger.inspection import Inspection
from tests.integration.coordinator.scripted import Say, call, in_turn
from tests.integration.coordinator.stage import Stage


async def test_runs_whose_owners_were_killed_leave_nothing_for_the_audit(stage: Stage) -> None:
    await stage.model(in_turn(*(Say(calls=(call("note", f'{{"line":{n}}}', n),)) for n in range(8)), Say("Done.")))
    await stage.tools()
    first = await stage.coordinator()
    run_ids = [await stage.start(f"goal {number}") for number in range(3)]
    for run_id in run_ids:
        await stage.until(run_id, "running", "finished")
    await stage.coordinator()
    await first.kill()
    for run_id in run_ids:
        assert (await stage.ended(run_id)).status == "finished"
    await recorded(stage, 3)
    inspection = Inspection(stage.bus, SystemClock(), stage.blobs, live=True, grace_seconds=0.0)
    report = await inspection.report()
    assert report.findings == ()
    assert (report.runs, report.requests) == (3, 3)
    assert report.blobs > 20


async def recorded(stage: Stage, runs: int) -> None:
    """Every run has its terminal record."""
    async with asyncio.timeout(20.0):
        pattern = names.event_terminal("x")[:-1] + "*"
        while len(await stage.bus.subjects_of(names.STREAM_EVENTS, pattern)) < runs:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
