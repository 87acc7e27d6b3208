"""``python -m tests.chaos.runs``: missions of 60 steps while everything under them is killed.

A real broker and real processes: two coordinators, two tools, both ways to a model, recorder, ingest. An undisturbed
run first; then several missions at once, with ``kill -9`` of one process after the other at random moments, until there
were ``KILLS`` of them and every mission has ended. Then: the same results as undisturbed, no recorded model call asked
again, no effect with an idempotency key twice, effects without one reported where they happened twice, intent recorded
before every effect, one terminal record each, and a clean audit. Last an owner is frozen in the middle of an append,
which random moments seldom meet. ``BREAK`` plants a defect that must be noticed.
Progress on the way; the last line is one JSON object; exit code 1 on a fault.
"""

import argparse
import asyncio
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Any

from schemas.runs import ModelAnswered, RunBudget, RunSpec, ToolAsked
from shared.clock import SystemClock
from shared.errors import MoontideError
from shared.ledger.journal import Ledger
from shared.ledger.state import RunState
from tests.chaos import fleet as fleets
from tests.chaos.broken import BREAKS
from tests.chaos.client import Client
from tests.chaos.evidence import findings, record_of, rows
from tests.chaos.fleet import Fleet, Options
from tests.chaos.freeze import freeze
from tests.chaos.verdict import Faults, judge, percentile, takeover_seconds
from tests.endpoints.agent import MODEL
from tests.missions import pier, repository
from tests.missions.judge import Results, problems, results
from tests.waiting import until_it_is

WEIGHTS = {
    "coordinator": 5, "tools": 4, "upstream": 3, "tokenizer": 3, "recorder": 1, "broker": 2, "engine": 1, "endpoint": 1,
}  # fmt: skip
RUN_SECONDS = 900.0
QUIET_SECONDS = 300.0
RECORDED_SECONDS = 10.0
MOST_FAULTS = 8
"""In words, in the last line."""
FREEZE_SECONDS = 20.0
"""Longer than a lease lasts and its end is noticed: the frozen owner wakes up to runs of somebody else."""


NOTHING = Results(status="", answer="", files={}, patch=b"", steps=())


@dataclass(frozen=True)
class Storm:
    seed: int = 1
    kills: int = 100
    broken: str = ""
    at_once: int = 4
    freezes: int = 4
    """Coordinators stopped for longer than a lease, and woken."""
    pause_seconds: tuple[float, float] = (0.3, 2.5)
    models: tuple[str, ...] = (MODEL, fleets.LOCAL)
    model_seconds: float = 0.05


@dataclass
class Log:
    """What the storm did, with the times of it."""

    kills: Counter[str] = field(default_factory=Counter)
    freezes: int = 0
    deaths: list[tuple[float, str]] = field(default_factory=list)
    """When, and which owner."""
    runs: list[tuple[str, str, str]] = field(default_factory=list)
    """Run id, label, model."""

    @property
    def killed(self) -> int:
        return sum(self.kills.values())


def say(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", flush=True)


class Storming:
    def __init__(self, fleet: Fleet, storm: Storm, repository_bundle: bytes) -> None:
        self.fleet, self.storm, self.log, self.faults = fleet, storm, Log(), Faults()
        self.chance = random.Random(storm.seed)
        self.client = Client(fleet.bus, fleet.blobs)
        self._repository = repository_bundle
        self._count = 0
        self._frozen: set[str] = set()

    async def mission(self, model: str) -> tuple[str, str]:
        """One mission from its acceptance to its end: (run id, label)."""
        self._count += 1
        label = f"m{self._count}"
        goal = pier.goal(self.storm.seed, label, self.fleet.notice_url)
        spec = RunSpec(
            model=model,
            messages=(await self.client.message(goal),),
            title=label,
            tools=pier.TOOLS,
            approvals=(pier.APPROVED,),
            budget=RunBudget(max_steps=pier.STEPS + 10, max_seconds=RUN_SECONDS),
            repository=await self.fleet.blobs.put(self._repository),
        )
        accepted = await self.client.submit(spec)
        self.log.runs.append((accepted.run_id, label, model))
        if not await self._is_recorded(accepted.run_id):
            self.faults.add("accepted", f"{accepted.run_id} was accepted, and is not in the ledger")
            await until_it_is(lambda: self._is_recorded(accepted.run_id), RECORDED_SECONDS)
        await self.client.finished(accepted.run_id, RUN_SECONDS)
        return accepted.run_id, label

    async def _is_recorded(self, run_id: str) -> bool:
        return bool((await record_of(self.fleet, run_id, "")).entries)

    async def blow(self) -> None:
        """Missions all the time, until enough was killed; then until the last one ended."""
        models = [self.storm.models[number % len(self.storm.models)] for number in range(self.storm.at_once)]
        running = {asyncio.create_task(self._missions(model)) for model in models}
        try:
            await self._kill_all()
            say(f"{self.log.killed} kills, {self.log.freezes} freezes; waiting for the last missions")
            done, _ = await asyncio.wait(running, timeout=QUIET_SECONDS)
            for task in done:
                if (error := task.exception()) is not None:
                    self.faults.add("ended", f"a mission came to no end: {error!r:.200}")
            if late := len(running) - len(done):
                self.faults.add("ended", f"{late} missions did not end in {QUIET_SECONDS:.0f} s of quiet")
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _missions(self, model: str) -> None:
        while True:
            await self.mission(model)
            if self.log.killed >= self.storm.kills:
                return

    async def _kill_all(self) -> None:
        freezing: set[asyncio.Task[None]] = set()
        every = max(1, self.storm.kills // (self.storm.freezes + 1))
        while self.log.killed < self.storm.kills:
            await asyncio.sleep(self.chance.uniform(*self.storm.pause_seconds))
            await self._kill_one()
            if self.log.killed % every == 0 and self.log.freezes < self.storm.freezes:
                freezing.add(asyncio.create_task(self._freeze()))
            if self.log.killed % 10 == 0:
                say(f"{self.log.killed} of {self.storm.kills} kills, {self._count} missions")
        if freezing:
            await asyncio.wait(freezing)

    async def _kill_one(self) -> None:
        parts = [part for part in WEIGHTS if self.fleet.options.local or part not in ("tokenizer", "engine")]
        (part,) = self.chance.choices(parts, [WEIGHTS[part] for part in parts])
        name = self.chance.choice(self.fleet.names_of(part))
        if name in self._frozen:
            return
        owner = self.fleet.owner(name) if part == "coordinator" else ""
        if self.fleet.kill(name):
            self.log.kills[part] += 1
            if owner:
                self.log.deaths.append((time.time(), owner))

    async def _freeze(self) -> None:
        """One owner at a time: the other one takes its runs over."""
        name = self.chance.choice(self.fleet.names_of("coordinator"))
        if self._frozen or self.fleet.send(name, SIGSTOP) is None:
            return
        self.log.freezes += 1
        self._frozen.add(name)
        await asyncio.sleep(FREEZE_SECONDS)
        self.fleet.send(name, SIGCONT)
        self._frozen.discard(name)


async def outcome(fleet: Fleet, run_id: str, label: str) -> tuple[RunState, Results]:
    """Raises a MoontideError when the ledger cannot be replayed."""
    state = await Ledger(fleet.bus, SystemClock()).state(run_id)
    return state, (await results(state, fleet.blobs)).named(label)


async def storm(folder: Path, plan: Storm) -> dict[str, Any]:
    options = Options(
        seed=plan.seed,
        coordinator="tests.chaos.broken" if plan.broken else "services.coordinator",
        model_seconds=plan.model_seconds,
        local=fleets.LOCAL in plan.models,
        variables={"CHAOS_BREAK": plan.broken} if plan.broken else {},
    )
    bundle = repository.bundle(folder / "made", plan.seed)
    started = time.monotonic()
    async with fleets.running(folder / "stack", options) as fleet:
        say(f"all processes are ready after {time.monotonic() - started:.0f} s")
        storming = Storming(fleet, plan, bundle)
        calm = {model: await _calm(storming, model, folder) for model in plan.models}
        await _judge(storming)
        if storming.faults.total():
            say("undisturbed runs are at fault already: there is no storm")
        else:
            say(f"undisturbed: {', '.join(found.status for found in calm.values())}; the storm begins")
            await storming.blow()
            await _judge(storming)
        return await _verdict(storming, calm, started)


async def _calm(storming: Storming, model: str, folder: Path) -> Results:
    """The undisturbed run: what it must be by itself, and what the others are compared with."""
    try:
        run_id, label = await storming.mission(model)
        state, found = await outcome(storming.fleet, run_id, label)
    except (MoontideError, TimeoutError) as error:
        storming.faults.add("mission", f"undisturbed {model}: {error!r}")
        return NOTHING
    judged = folder / f"judged-{model}"
    wrong = await problems(found, state, storming.fleet.blobs, storming.storm.seed, judged, sees=model == MODEL)
    used = {event.tool for _, event in (await record_of(storming.fleet, run_id, label)).events(ToolAsked)}
    wrong += [f"{tool} was not used" for tool in sorted(set(pier.TOOLS) - used)]
    for words in wrong:
        storming.faults.add("mission", f"undisturbed {model}: {words}")
    return found


async def _judge(storming: Storming) -> None:
    fleet = storming.fleet
    records = [await record_of(fleet, run_id, label) for run_id, label, _ in storming.log.runs]
    judged = judge(records, rows(fleet.model_log), rows(fleet.effects_log))
    for kind, words in judged.found.items():
        storming.faults.found[kind] = words + [one for one in storming.faults.found[kind] if one not in words]


async def _verdict(storming: Storming, calm: dict[str, Results], started: float) -> dict[str, Any]:
    fleet, log, faults = storming.fleet, storming.log, storming.faults
    records = [await record_of(fleet, run_id, label) for run_id, label, _ in log.runs]
    equal = 0
    for run_id, label, model in log.runs:
        equal += await _equals(fleet, run_id, label, calm[model], faults)
    for words in await findings(fleet):
        faults.add("audit", words)
    takeovers = takeover_seconds(records, log.deaths)
    return {
        "seed": storming.storm.seed,
        "break": storming.storm.broken or None,
        "steps": sum(len(record.events(ModelAnswered)) for record in records),
        "runs": len(records),
        "kills": log.killed,
        "killed": dict(log.kills),
        "freezes": log.freezes,
        "results_equal": equal == len(log.runs),
        "calls_repaid": faults.count("calls_repaid"),
        "effects_repeated": faults.count("effects_repeated") + faults.count("effects_unreported"),
        "takeovers": len(takeovers),
        "takeover_p99_seconds": round(percentile(takeovers, 0.99), 2),
        "seconds": round(time.monotonic() - started, 1),
        "faults": {kind: len(words) for kind, words in faults.found.items() if words},
        "first_faults": [words for kind in faults.found.values() for words in kind][:MOST_FAULTS],
    }


async def _equals(fleet: Fleet, run_id: str, label: str, wanted: Results, faults: Faults) -> bool:
    try:
        _, found = await outcome(fleet, run_id, label)
    except MoontideError as error:
        faults.add("replay", f"{run_id} cannot be replayed: {error.message}")
        return False
    if found == wanted:
        return True
    faults.add("results", f"{run_id}: {found.difference(wanted)}")
    return False


async def storm_and_freeze(folder: Path, plan: Storm) -> dict[str, Any]:
    result = await storm(folder / "storm", plan)
    say("an owner is frozen in the middle of an append")
    frozen = await freeze(folder / "freeze", "before", 4, 0.0, fenced=plan.broken != "no-fencing")
    if frozen["faults"]:
        result["faults"]["frozen"] = len(frozen["faults"])
        result["first_faults"] += frozen["faults"][:MOST_FAULTS]
    return result


def run(plan: Storm) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="moontide-runs-") as folder:
        return asyncio.run(storm_and_freeze(Path(folder), plan))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.runs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--break", dest="broken", choices=("", *BREAKS), default="")
    parsed = parser.parse_args()
    logging.disable(logging.WARNING)  # of this process: its broker dies too
    result = run(Storm(seed=parsed.seed, kills=parsed.kills, broken=parsed.broken))
    print(json.dumps(result))
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
