"""``python -m tests.measure.bench_runs``: a run of 1,000 steps over a conversation of 200,000 tokens.

Real broker, coordinator, tools and upstream; the model is scripted and takes no time. The conversation begins with
documents and grows by what is read; each step is a model call and a tool call. Output: progress, and one JSON object
last: bytes of ledger and blobs, seconds of a replay, seconds and processor seconds of a step at the start and at the
end; exit code 1 when a bound is broken.
"""

import argparse
import asyncio
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.runs import ModelAnswered, ModelAsked, RunBudget, RunSpec, SeedFile
from shared.clock import SystemClock
from shared.ledger.journal import Ledger
from shared.ledger.machine import ENDED
from shared.ledger.state import replay
from tests.chaos import fleet as fleets
from tests.chaos.client import Client
from tests.chaos.evidence import record_of, rows
from tests.chaos.fleet import Fleet, Options
from tests.endpoints.agent import MODEL
from tests.missions import plain

MAX_STATE_BYTES = 50_000_000
MAX_REPLAY_SECONDS = 2.0
MAX_GROWTH = 1.5
DOCUMENT_CHARACTERS = 8_000
CHARACTERS_PER_TOKEN = 4
TOKENS_PER_STEP = 38
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Size:
    steps: int = 1000
    tokens: int = 200_000
    """Of the conversation at its end."""
    edge: int = 100
    """Steps at the start and at the end that are compared."""


async def spec(client: Client, size: Size) -> RunSpec:
    documents = max(1, (size.tokens - size.steps * TOKENS_PER_STEP) * CHARACTERS_PER_TOKEN // DOCUMENT_CHARACTERS)
    texts = [f"Document {number}. {'tide ' * (DOCUMENT_CHARACTERS // 5)}" for number in range(documents)]
    goal = plain.goal(plain.COUNTED, "bench", size.steps)
    return RunSpec(
        model=MODEL,
        messages=tuple([await client.message(text) for text in (*texts, goal)]),
        title="a thousand steps",
        budget=RunBudget(max_steps=size.steps + 1),
        files=(SeedFile(path=plain.BOOK, content=await client.blobs.put(plain.book(size.steps).encode())),),
    )


async def measure(folder: Path, size: Size) -> dict[str, Any]:
    async with fleets.running(folder, Options(local=False, model_seconds=0.0)) as fleet:
        client = Client(fleet.bus, fleet.blobs)
        wanted = await spec(client, size)
        before = _bytes_below(fleet.layout.blobs)
        given = sum(reference.size_bytes for reference in wanted.messages)
        run_id = (await client.submit(wanted)).run_id
        processors = await _watch(fleet, client, run_id, size)
        record = await record_of(fleet, run_id, "bench")
        ledger = Ledger(fleet.bus, SystemClock())
        started = time.perf_counter()
        state = await ledger.state(run_id)
        whole_replay = time.perf_counter() - started
        entries = [numbered async for numbered in ledger.entries(run_id)]
        started = time.perf_counter()
        replay(entries)
        pure_replay = time.perf_counter() - started
        blobs = _bytes_below(fleet.layout.blobs) - before + given
        kept = sum(one.size_bytes for one in record.entries)
        thinking = {row["step"]: row["seconds"] for row in rows(fleet.model_log) if row["what"] == "answered"}
    last = [event for _, event in record.events(ModelAnswered)][-1]
    seconds = _step_seconds(record, thinking, size)
    return {
        "status": state.place.status,
        "steps": state.step,
        "conversation_tokens": last.usage.prompt_tokens,
        "state_bytes": kept + blobs,
        "ledger_bytes": kept,
        "blob_bytes": blobs,
        "replay_seconds": round(whole_replay, 3),
        "replay_pure_seconds": round(pure_replay, 3),
        "step_seconds_start": round(seconds[0], 4),
        "step_seconds_end": round(seconds[1], 4),
        "step_growth": round(seconds[1] / seconds[0], 3),
        "processor_seconds_start": round(processors[0], 4),
        "processor_seconds_end": round(processors[1], 4),
        "processor_growth": round(processors[1] / processors[0], 3) if processors[0] else None,
    }


async def _watch(fleet: Fleet, client: Client, run_id: str, size: Size) -> tuple[float, float]:
    """Until the end. Processor seconds of a step, of both coordinators (one of them has the run), at start and end."""
    marks: list[tuple[int, float]] = []
    said = 0
    while True:
        summary = await client.get(run_id)
        marks.append((summary.step, _processor_seconds(fleet)))
        if summary.status in ENDED:
            return _between(marks, 2, size.edge), _between(marks, size.steps - size.edge, size.steps)
        if summary.step >= said + 100:
            said = summary.step - summary.step % 100
            print(f"step {summary.step} of {size.steps}", flush=True)
        await asyncio.sleep(max(POLL_SECONDS, size.edge * 0.01))


def _between(marks: list[tuple[int, float]], first: int, last: int) -> float:
    inside = [mark for mark in marks if first <= mark[0] <= last]
    steps = inside[-1][0] - inside[0][0] if len(inside) > 1 else 0
    return (inside[-1][1] - inside[0][1]) / steps if steps else 0.0


def _processor_seconds(fleet: Fleet) -> float:
    tick, total = os.sysconf("SC_CLK_TCK"), 0
    for name in ("coordinator-1", "coordinator-2"):
        pid = fleet.supervisor.children[name].pid
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / tick


def _step_seconds(record: Any, thinking: dict[int, float], size: Size) -> tuple[float, float]:
    """Median from one question to the next, without what the scripted endpoint took, at the start and at the end."""
    times = {event.step: time for time, event in record.events(ModelAsked)}
    each = [times[step + 1] - times[step] - thinking[step] for step in range(2, max(times)) if step + 1 in times]
    return statistics.median(each[: size.edge]), statistics.median(each[-size.edge :])


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def kept(result: dict[str, Any]) -> bool:
    """Whether the bounds hold."""
    return (
        result["status"] == "finished"
        and result["state_bytes"] < MAX_STATE_BYTES
        and result["replay_seconds"] < MAX_REPLAY_SECONDS
        and result["step_growth"] <= MAX_GROWTH
    )


def main() -> int:
    defaults = Size()
    parser = argparse.ArgumentParser(prog="python -m tests.measure.bench_runs")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--tokens", type=int, default=defaults.tokens)
    parsed = parser.parse_args()
    logging.disable(logging.WARNING)
    size = Size(steps=parsed.steps, tokens=parsed.tokens, edge=max(5, parsed.steps // 10))
    with tempfile.TemporaryDirectory(prefix="moontide-bench-") as folder:
        result = asyncio.run(measure(Path(folder), size))
    print(json.dumps(result))
    return 0 if kept(result) else 1


if __name__ == "__main__":
    sys.exit(main())
