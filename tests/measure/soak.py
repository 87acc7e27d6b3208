"""``python -m tests.measure.soak``: half an hour of constant load on an engine; nothing grows, and every page returns.

Sessions of ``bench serve`` arrive at a constant rate, as long as few enough are open. Once a second: resident bytes,
and the cache's invariants. Nothing grows means: after a warm-up of the first third, the median of the last quarter's
resident bytes exceeds that of the first quarter by less than ``GROWTH_BYTES``. At the end every page must be free or an
idle prefix. Prints one JSON line; exit code 1 when something grew. ``--break leak`` keeps memory of each call, which
must be seen.
"""

import argparse
import asyncio
import json
import mmap
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from services.inference.bench.runner import resident_bytes
from services.inference.bench.serve_load import Rig, Tally, rig
from services.inference.bench.serve_traffic import sessions
from shared.model import presets
from shared.model.initialise import initialise

GROWTH_BYTES = 6 * 2**20
WARM_UP = 1 / 3
PAGES = 256
VOCABULARY = 512
BREAKS = ("", "leak")
LEAK_BYTES = 2**21
"""Per call of a run of one second; the longer the run, the less, down to a page of memory."""
PROGRESS_SECONDS = 10
MOST_OPEN = 40
"""Sessions at once: on a machine that is too slow for the arrivals it is the load that is constant, not a queue that
grows."""


class Watch:
    """Samples once a second while the load runs."""

    def __init__(self, driven: Rig) -> None:
        self._rig = driven
        self.resident: list[int] = []
        self.seconds: list[float] = []
        self.cached: list[int] = []

    async def run(self) -> None:
        while True:
            state = self._rig.engine.state
            state.cache.check_invariants(state.running)
            self.resident.append(resident_bytes())
            self.seconds.append(self._rig.clock.monotonic_seconds())
            self.cached.append(state.cache.cached)
            if len(self.resident) % PROGRESS_SECONDS == 0:
                calls, mib = self._rig.tally.calls, self.resident[-1] / 2**20
                print(f"{len(self.resident)} s: {calls} calls, {mib:.1f} MiB resident", file=sys.stderr, flush=True)
            await asyncio.sleep(1.0)

    def growth_bytes(self) -> float:
        steady = self.resident[int(len(self.resident) * WARM_UP) :]
        quarter = max(1, len(steady) // 4)
        return statistics.median(steady[-quarter:]) - statistics.median(steady[:quarter])


async def soak(directory: Path, minutes: float, seed: int, sessions_per_second: float, broken: str) -> dict[str, Any]:
    kept: list[mmap.mmap] = []
    async with rig(directory, PAGES) as driven:
        driven.tally = Tally(keep_times=False)
        if broken == "leak":
            driven.at_end = lambda sequence: kept.append(leak(minutes * 60))
        watch = Watch(driven)
        watching = asyncio.create_task(watch.run())
        await driven.load(sessions(seed, sessions_per_second, VOCABULARY), minutes * 60, MOST_OPEN)
        watching.cancel()
        await asyncio.wait({watching})
        if not watching.cancelled():
            watching.result()
        cache = driven.engine.state.cache
        cache.check_invariants([])
        return report(driven, watch, cache.pages - cache.available) | {"minutes": minutes, "seed": seed}


def leak(seconds: float) -> mmap.mmap:
    """Fresh pages of the system's, so that nothing freed earlier hides them."""
    size = max(mmap.PAGESIZE, int(LEAK_BYTES / seconds))
    pages = mmap.mmap(-1, size)
    pages.write(b"x" * size)
    return pages


def report(driven: Rig, watch: Watch, lost: int) -> dict[str, Any]:
    growth, tally = watch.growth_bytes(), driven.tally
    observed = (watch.seconds[-1] - watch.seconds[0]) * (1 - WARM_UP) * 0.75
    return {
        "calls": tally.calls,
        "answer_tokens": tally.answer_tokens,
        "preempted": driven.engine.preempted,
        "resident_bytes_start": watch.resident[0],
        "resident_bytes_end": watch.resident[-1],
        "resident_growth_bytes": int(growth),
        "resident_growth_bytes_per_hour": int(growth / observed * 3600),
        "growth_bound_bytes": GROWTH_BYTES,
        "cache_pages": PAGES,
        "cached_pages_most": max(watch.cached),
        "pages_lost": lost,
        "generations_left": driven.engine.load,
        "odd_tables": tally.odd_tables,
        "flat": growth < GROWTH_BYTES and not lost and not driven.engine.load and not tally.odd_tables,
    }


def run(minutes: float, seed: int, sessions_per_second: float, broken: str = "") -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="moontide-soak-") as name:
        directory = Path(name) / "tiny"
        initialise(directory, presets.document("tiny", VOCABULARY), seed=7, tokenizer_config=None)
        return asyncio.run(soak(directory, minutes, seed, sessions_per_second, broken))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.soak")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sessions-per-second", type=float, default=3.0)
    parser.add_argument("--break", dest="broken", choices=BREAKS, default="")
    parsed = parser.parse_args()
    result = run(parsed.minutes, parsed.seed, parsed.sessions_per_second, parsed.broken)
    print(json.dumps(result))
    return 0 if result["flat"] else 1


if __name__ == "__main__":
    sys.exit(main())
