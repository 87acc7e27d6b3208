"""Tools processes that die between an effect and its answer: with a key it happens once, without one that is said."""

from collections import Counter
from pathlib import Path

import pytest

from schemas.runs import RunSpec, ToolAnswered
from tests.chaos import fleet as fleets
from tests.chaos.client import Client
from tests.chaos.evidence import findings, record_of, rows
from tests.chaos.fleet import Fleet, Options
from tests.chaos.verdict import judge
from tests.endpoints.agent import MODEL
from tests.missions import plain
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("quiet")

PATIENCE_SECONDS = 90.0
EFFECT_SECONDS = 3.0
"""Long enough to die in."""


async def kill_in(fleet: Fleet, tool: str) -> None:
    """Whoever works on the call dies once its effect has happened."""
    await until(lambda: any(row["tool"] == tool for row in rows(fleet.effects_log)), PATIENCE_SECONDS)
    for name in fleet.names_of("tools"):
        fleet.kill(name)


@pytest.mark.timeout(240)
async def test_an_effect_happens_once_or_is_reported(tmp_path: Path) -> None:
    async with fleets.running(tmp_path, Options(local=False, effect_seconds=EFFECT_SECONDS)) as fleet:
        client = Client(fleet.bus, fleet.blobs)
        goal = await client.message(plain.goal(plain.EFFECTS, "effects"))
        run_id = (await client.submit(RunSpec(model=MODEL, messages=(goal,)))).run_id
        await kill_in(fleet, "note")
        await kill_in(fleet, "shout")
        summary = await client.finished(run_id, PATIENCE_SECONDS)
        record = await record_of(fleet, run_id, "effects")
        faults = judge([record], rows(fleet.model_log), rows(fleet.effects_log)).found
        assert await findings(fleet) == []
    happened = Counter(row["tool"] for row in rows(fleet.effects_log) if row["happened"])
    reported = {event.call_id: event.possibly_repeated for _, event in record.events(ToolAnswered)}
    assert summary.status == "finished"
    assert dict(faults) == {}
    assert happened["note"] == 1
    assert reported[f"{run_id}-1-0"] is False
    assert reported[f"{run_id}-2-0"] is True
