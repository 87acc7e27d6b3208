"""Short storms over real processes, and each planted defect turned red. Long ones: ``make chaos-runs``."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import fleet as fleets
from tests.chaos.client import Client
from tests.chaos.evidence import record_of, rows
from tests.chaos.fleet import Fleet, Options
from tests.chaos.freeze import STEPS, begin
from tests.chaos.runs import Storm, storm
from tests.chaos.verdict import judge
from tests.endpoints.agent import MODEL
from tests.waiting import until_it_is

pytestmark = pytest.mark.usefixtures("quiet")

PATIENCE_SECONDS = 90.0


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("sandbox")
async def test_a_mission_of_sixty_steps_survives_everybody(tmp_path: Path) -> None:
    plan = Storm(seed=7, kills=8, at_once=1, freezes=0, pause_seconds=(0.8, 2.0), models=(MODEL,))
    result = await storm(tmp_path, plan)
    assert result["faults"] == {}, json.dumps(result)
    assert result["results_equal"]
    assert result["kills"] == 8
    assert result["steps"] >= 120


async def faults(folder: Path, broken: str) -> dict[str, Any]:
    """Of one short run without any kill."""
    options = Options(local=False, coordinator="tests.chaos.broken", variables={"CHAOS_BREAK": broken})
    async with fleets.running(folder, options) as fleet:
        client = Client(fleet.bus, fleet.blobs)
        run_id = await begin(client, "short")
        accepted = (await record_of(fleet, run_id, "short")).entries
        await until_it_is(lambda: _is_recorded(fleet, run_id), PATIENCE_SECONDS)
        await client.finished(run_id, PATIENCE_SECONDS)
        record = await record_of(fleet, run_id, "short")
        assert len({row["step"] for row in rows(fleet.model_log)}) == STEPS
        found = dict(judge([record], rows(fleet.model_log), rows(fleet.effects_log)).found)
    return found | ({} if accepted else {"accepted": [run_id]})


async def _is_recorded(fleet: Fleet, run_id: str) -> bool:
    return bool((await record_of(fleet, run_id, "short")).entries)


@pytest.mark.timeout(180)
async def test_effects_before_their_intent_are_noticed(tmp_path: Path) -> None:
    assert "intent" in await faults(tmp_path, "effect-before-intent")


@pytest.mark.timeout(180)
async def test_an_acknowledgement_before_its_append_is_noticed(tmp_path: Path) -> None:
    assert "accepted" in await faults(tmp_path, "ack-before-append")
