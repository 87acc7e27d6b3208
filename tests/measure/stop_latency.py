"""``python -m tests.measure.stop_latency``: how soon a run does what it is told, and what it spends beyond its budget.

Real processes, a scripted model. A stop while the model thinks, while a tool works, while a person is awaited and while
a quota is used up: seconds from the stored command to the recorded end. A used-up quota: seconds from its refusal to
the visible state. Budgets of steps, tokens, cost and seconds: what was spent beyond them, against the call in flight.
One JSON object last; exit code 1 when a bound is broken.
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from schemas.runs import ModelAnswered, RunBudget, RunEnded, RunSpec, RunSummary, RunWaiting, StopRun, ToolAsked
from tests.chaos import fleet as fleets
from tests.chaos.client import Client
from tests.chaos.evidence import record_of, rows
from tests.chaos.fleet import Fleet, Options
from tests.chaos.verdict import Record
from tests.e2e.stack import processes
from tests.endpoints.agent import MODEL
from tests.missions import plain
from tests.waiting import until, until_it_is

MAX_STOP_SECONDS = 1.0
MAX_QUOTA_SECONDS = 5.0
PATIENCE_SECONDS = 30.0
MAX_COST_USD = 0.004


class Stopwatch:
    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.client = fleet, Client(fleet.bus, fleet.blobs)
        self._count = 0

    async def begin(self, mission: str, budget: RunBudget | None = None) -> str:
        self._count += 1
        goal = await self.client.message(plain.goal(mission, f"s{self._count}"))
        spec = RunSpec(model=MODEL, messages=(goal,), approvals=(plain.ASKED,), budget=budget or RunBudget())
        return (await self.client.submit(spec)).run_id

    @property
    def label(self) -> str:
        """Of the run begun last, in the model's log."""
        return f"s{self._count}"

    async def record(self, run_id: str) -> Record:
        return await record_of(self.fleet, run_id, "")

    async def until(self, run_id: str, condition: Callable[[RunSummary], bool]) -> RunSummary:
        last: list[RunSummary] = []

        async def asked() -> bool:
            last[:] = [await self.client.get(run_id)]
            return condition(last[0])

        await until_it_is(asked, PATIENCE_SECONDS)
        return last[0]

    async def until_recorded(self, run_id: str, kind: Any) -> None:
        async def recorded() -> bool:
            return bool((await self.record(run_id)).events(kind))

        await until_it_is(recorded, PATIENCE_SECONDS)

    async def stop(self, run_id: str) -> float:
        """Seconds from the moment in which the stop is asked for to the recorded end."""
        asked = time.time()
        await self.client.command(run_id, StopRun(reason="enough"))
        await self.until(run_id, lambda summary: summary.status == "cancelled")
        ((ended, _),) = (await self.record(run_id)).events(RunEnded)
        return ended - asked

    async def control(self, **changes: Any) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.fleet.endpoint_url}/control", json=changes) as reply,
        ):
            assert reply.status == 200, await reply.text()


async def stops(watch: Stopwatch) -> dict[str, float]:
    found = {}
    await watch.control(mode="hangs")
    run_id = await watch.begin(plain.ENDLESS)
    await _asked(watch)
    found["model"] = await watch.stop(run_id)
    await watch.control(mode="well")
    run_id = await watch.begin(plain.SLEEPY)
    await watch.until_recorded(run_id, ToolAsked)
    await until(_sleepers, PATIENCE_SECONDS)
    found["tool"] = await watch.stop(run_id)
    asked = time.monotonic()
    await until(lambda: not _sleepers(), PATIENCE_SECONDS)
    found["tool_gone"] = found["tool"] + time.monotonic() - asked
    run_id = await watch.begin(plain.ASKING)
    await watch.until(run_id, lambda summary: bool(summary.approvals))
    found["approval"] = await watch.stop(run_id)
    return found


def _sleepers() -> list[int]:
    """Processes of the long tool call, whoever started them."""
    return [one.pid for one in processes() if one.command.split() == ["sleep", str(plain.SLEEP_SECONDS)]]


async def _asked(watch: Stopwatch) -> None:
    """The endpoint has the last run's request."""
    label = watch.label
    await until(lambda: any(row["run"] == label for row in rows(watch.fleet.model_log)), PATIENCE_SECONDS)


async def quota(watch: Stopwatch) -> tuple[float, float]:
    """Seconds from the refusal to the state that people see, and of a stop in it."""
    await watch.control(mode="quota")
    run_id = await watch.begin(plain.ENDLESS)
    label = watch.label
    summary = await watch.until(run_id, lambda summary: summary.waiting is not None)
    seen = time.time()
    assert summary.waiting is not None
    assert "quota" in summary.waiting.code, summary.waiting
    assert (await watch.record(run_id)).events(RunWaiting)
    refused = min(row["time"] for row in rows(watch.fleet.model_log) if row["run"] == label and row["what"] == "quota")
    stopped = await watch.stop(run_id)
    await watch.control(mode="well")
    return seen - refused, stopped


async def overshoot(watch: Stopwatch) -> dict[str, Any]:
    """Beyond each budget, and what the last call took of it."""
    run_id = await watch.begin(plain.ENDLESS, RunBudget(max_steps=7))
    steps = await watch.until(run_id, lambda summary: summary.status == "failed")
    run_id = await watch.begin(plain.ENDLESS, RunBudget(max_tokens=3000))
    tokens = await watch.until(run_id, lambda summary: summary.status == "failed")
    last = [event.usage for _, event in (await watch.record(run_id)).events(ModelAnswered)][-1]
    spent = tokens.usage.prompt_tokens + tokens.usage.completion_tokens
    run_id = await watch.begin(plain.ENDLESS, RunBudget(max_cost_usd=MAX_COST_USD))
    cost = await watch.until(run_id, lambda summary: summary.status == "failed")
    dear = [event.cost_usd for _, event in (await watch.record(run_id)).events(ModelAnswered)][-1]
    run_id = await watch.begin(plain.SLEEPY, RunBudget(max_seconds=4.0))
    await watch.until(run_id, lambda summary: summary.status == "failed")
    record = await watch.record(run_id)
    took = record.entries[-1].time - record.entries[0].time
    return {
        "steps": steps.step - 7,
        "tokens": max(0, spent - 3000),
        "tokens_of_last_call": last.prompt_tokens + last.completion_tokens,
        "tokens_spent": spent,
        "cost_usd": round(max(0.0, cost.cost_usd - MAX_COST_USD), 6),
        "cost_usd_of_last_call": round(dear, 6),
        "cost_usd_spent": round(cost.cost_usd, 6),
        "seconds": round(max(0.0, took - 4.0), 3),
        "codes": [one.failure.code if one.failure else "" for one in (steps, tokens, cost)],
    }


async def measure(folder: Path, rounds: int = 3) -> dict[str, Any]:
    prices = folder / "prices.json"
    prices.write_text(json.dumps({MODEL: {"prompt": 1.0, "completion": 3.0}}))
    variables = {"MOONTIDE_COORDINATOR_PRICES_FILE": str(prices)}
    async with fleets.running(folder / "stack", Options(local=False, model_seconds=0.0, variables=variables)) as fleet:
        watch = Stopwatch(fleet)
        each = [await stops(watch) for _ in range(rounds)]
        visible, stopped = await quota(watch)
        beyond = await overshoot(watch)
    worst = {name: round(max(one[name] for one in each), 3) for name in each[0]} | {"quota": round(stopped, 3)}
    return {
        "stop_seconds": worst,
        "stop_worst_seconds": max(worst.values()),
        "quota_visible_seconds": round(visible, 3),
        "overshoot": beyond,
    }


def kept(result: dict[str, Any]) -> bool:
    beyond = result["overshoot"]
    return (
        result["stop_worst_seconds"] <= MAX_STOP_SECONDS
        and result["quota_visible_seconds"] <= MAX_QUOTA_SECONDS
        and beyond["steps"] == 0
        and beyond["tokens"] <= beyond["tokens_of_last_call"]
        and beyond["cost_usd"] <= beyond["cost_usd_of_last_call"]
        and beyond["seconds"] <= MAX_STOP_SECONDS
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.stop_latency")
    parser.add_argument("--rounds", type=int, default=5)
    parsed = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="moontide-stop-") as folder:
        result = asyncio.run(measure(Path(folder), parsed.rounds))
    print(json.dumps(result))
    return 0 if kept(result) else 1


if __name__ == "__main__":
    sys.exit(main())
