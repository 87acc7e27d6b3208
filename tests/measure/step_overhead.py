"""``python -m tests.measure.step_overhead``: what Python takes of a step at batch 16, on the K2-shaped checkpoint.

The engine serves 16 sequences with the layers in this process. A step's wall time less the time inside the model
(embedding, layers, head) is everything between two forwards: schedule, batch tables, sampling, emit, and the way to the
compute thread and back. ``draw_milliseconds`` of it are inside one operation of the kernels, the draw of all tokens
from their logits; the rest is Python, and ``share`` is what it takes of a step. Medians of the steps in turns of each
rule; prints one JSON object; exit code 1 when the share is not below 10 % for any rule.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

import kernels
from schemas.shards import SamplingRule
from services.inference.app import local_shard
from services.inference.bench.serve_load import ENCODER_CACHE_BYTES, PictureBook
from services.inference.compute import ComputeThread
from services.inference.config import InferenceConfig
from services.inference.encoder import Encoder
from services.inference.engine import Engine
from services.inference.generation import Generation
from services.inference.options import EngineOptions
from services.inference.sequence import Sequence
from services.inference.shard import LocalShard
from shared.clock import SystemClock
from shared.model import presets
from shared.model.checkpoint import Checkpoint, load
from shared.model.initialise import initialise

BATCH, PROMPT, TURNS = 16, 64, 3
SHARE = 0.1
CACHE_BYTES = 2**28
RULES = {
    "greedy": SamplingRule(),
    "seeded": SamplingRule(temperature=0.8, seed=1),
    "top_p": SamplingRule(temperature=0.8, top_p=0.95, seed=1),
    "all": SamplingRule(
        temperature=0.8,
        top_p=0.95,
        min_p=0.01,
        presence_penalty=0.5,
        frequency_penalty=0.1,
        repetition_penalty=1.1,
        logit_bias=((3, 1.0), (9, -1.0)),
        top_logprobs=20,
        seed=1,
    ),
}


class Stopwatch:
    """In place of something, with the seconds that were spent in some of its calls."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.seconds = inner, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def time(self, work: Any, *inputs: Any) -> Any:
        started = time.perf_counter()
        try:
            return work(*inputs)
        finally:
            self.seconds += time.perf_counter() - started


class TimedModel(Stopwatch):
    """The language model."""

    def __call__(self, *inputs: Any) -> Any:
        return self.time(self._inner, *inputs)

    def embed(self, ids: torch.Tensor) -> Any:
        return self.time(self._inner.embed, ids)

    def logits(self, hidden: torch.Tensor) -> Any:
        return self.time(self._inner.logits, hidden)


class TimedDraws(Stopwatch):
    """The compiled library, of which only the draw of tokens is timed."""

    def moontide_draws(self, *inputs: Any) -> Any:
        return self.time(self._inner.moontide_draws, *inputs)


class Bench:
    """An engine that is stepped by hand."""

    def __init__(self, shard: LocalShard, checkpoint: Checkpoint) -> None:
        self._vocabulary = checkpoint.config.text.vocab_size
        self._engine = Engine(shard, SystemClock(), vocabulary=self._vocabulary, options=EngineOptions())
        self._model = shard._layers._text = TimedModel(shard._layers._text)  # type: ignore[assignment]
        operations: Any = kernels.load()
        self._draws = operations._library = TimedDraws(operations._library)

    async def steps(self, rule: SamplingRule, steps: int) -> tuple[list[float], list[float], list[float]]:
        """Seconds of each step, of them between the model's work, of these in the draw."""
        engine = self._engine
        await engine._connect()
        with ExitStack() as admitted:
            for _ in range(BATCH):
                admitted.enter_context(engine.admit(self._generation(rule, steps)))
            while any(s.left > 1 for s in engine.state.running) or len(engine.state.running) < BATCH:
                await engine.step()
            return await self._timed(steps)

    async def _timed(self, steps: int) -> tuple[list[float], list[float], list[float]]:
        whole: list[float] = []
        between: list[float] = []
        draws: list[float] = []
        for _ in range(steps):
            started, inside, drawing = time.perf_counter(), self._model.seconds, self._draws.seconds
            await self._engine.step()
            whole.append(time.perf_counter() - started)
            between.append(whole[-1] - (self._model.seconds - inside))
            draws.append(self._draws.seconds - drawing)
        return whole, between, draws

    def _generation(self, rule: SamplingRule, steps: int) -> Generation:
        number = self._engine.next_number()
        tokens = [(7919 * (place + 1) + 104_729 * number) % self._vocabulary for place in range(PROMPT)]
        return Generation(Sequence(number, "a/a", tokens, PROMPT, PROMPT + steps + 8), rule)


async def measure(directory: Path, threads: int, steps: int) -> dict[str, Any]:
    checkpoint = load(directory, dtype=torch.bfloat16)
    config = InferenceConfig(checkpoint_dir=directory, cache_bytes=CACHE_BYTES)
    with ComputeThread(threads) as compute:
        encoder = Encoder(checkpoint.network, compute, PictureBook(), ENCODER_CACHE_BYTES)
        bench = Bench(await local_shard(config, checkpoint, compute, encoder), checkpoint)
        found: dict[str, tuple[list[float], ...]] = {name: ([], [], []) for name in RULES}
        await bench.steps(RULES["greedy"], 3)
        for turn in range(TURNS):
            for name, rule in RULES.items():
                for kept, times in zip(found[name], await bench.steps(rule, steps), strict=True):
                    kept += times
            print(f"turn {turn + 1} of {TURNS}", file=sys.stderr, flush=True)
    return {"batch": BATCH, "threads": threads, "rules": {name: figures(*times) for name, times in found.items()}}


def figures(whole: list[float], between: list[float], draws: list[float]) -> dict[str, float]:
    step, outside, draw = statistics.median(whole), statistics.median(between), statistics.median(draws)
    return {
        "step_milliseconds": round(step * 1e3, 2),
        "between_forwards_milliseconds": round(outside * 1e3, 2),
        "draw_milliseconds": round(draw * 1e3, 2),
        "share": round((outside - draw) / step, 4),
        "share_with_draw": round(outside / step, 4),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.step_overhead")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: a random K2-shaped one, made here")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=12, help="per turn and rule")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moontide-bench-") as name:
        directory = parsed.checkpoint or made(Path(name) / "bench")
        result = asyncio.run(measure(directory, parsed.threads, parsed.steps))
    print(json.dumps(result))
    return 0 if all(row["share"] < SHARE for row in result["rules"].values()) else 1


def made(directory: Path) -> Path:
    print("writing a random K2-shaped checkpoint (about 1 GB)", file=sys.stderr, flush=True)
    ranks = presets.BENCH_TEXT["vocab_size"] - presets.SPECIALS
    initialise(directory, presets.document("bench", ranks), 0, tokenizer_config=None)
    return directory


if __name__ == "__main__":
    sys.exit(main())
