"""Short versions of ``make stop-latency`` and ``make bench-runs``."""

from pathlib import Path

import pytest

from tests.measure import bench_runs, stop_latency
from tests.measure.bench_runs import MAX_STATE_BYTES, Size

MAX_GROWTH = 3.0
"""Of so few steps on a machine that does something else too; the promise is measured over 1,000."""


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("sandbox")
async def test_runs_stop_at_once_show_a_used_up_quota_and_keep_to_budgets(tmp_path: Path) -> None:
    result = await stop_latency.measure(tmp_path, rounds=1)
    assert stop_latency.kept(result), result
    assert result["overshoot"]["codes"] == ["run.budget_steps", "run.budget_tokens", "run.budget_cost"]


@pytest.mark.timeout(180)
async def test_a_long_run_stays_small_and_replays_fast(tmp_path: Path) -> None:
    result = await bench_runs.measure(tmp_path, Size(steps=40, tokens=30_000, edge=10))
    assert result["status"] == "finished"
    assert result["state_bytes"] < MAX_STATE_BYTES / 10
    assert result["replay_seconds"] < 1.0
    assert result["step_growth"] < MAX_GROWTH, result
