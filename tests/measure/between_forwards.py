"""``python -m tests.measure.between_forwards``: what lies between two forwards at batch 16, without the forward: the
engine's own work, and sampling for vocabularies of 32,768 and 163,840. Prints milliseconds per step as JSON."""

import asyncio
import json
import time
from contextlib import ExitStack
from typing import Any

import numpy as np

import kernels
from schemas.shards import Draw, Forward, ForwardDone, SamplingRule, SequenceOpened, ShardReady, TokenDrawn
from services.inference.engine import Engine
from services.inference.generation import Generation
from services.inference.options import EngineOptions
from services.inference.sampling import Sampler
from services.inference.sequence import Sequence
from shared.clock import SystemClock
from tests.chaos.stand_in import StandIn

BATCH, STEPS, PROMPT = 16, 400, 1000
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


class Instant(StandIn):
    """A shard that computes nothing at all."""

    async def execute(self, forward: Forward) -> ForwardDone:
        drawing = [piece for piece in forward.slices if piece.draw is not None]
        drawn = tuple(TokenDrawn(sequence=piece.sequence, token=7) for piece in drawing)
        return ForwardDone(number=forward.number, drawn=drawn)

    async def ready(self) -> ShardReady:
        return self.about


async def engine_milliseconds() -> float:
    shard = Instant(SystemClock(), pages=4096, page_tokens=64, row_seconds=0.0)
    engine = Engine(shard, SystemClock(), vocabulary=32_768, options=EngineOptions())
    await engine._connect()
    admitted = ExitStack()
    for _ in range(BATCH):
        number = engine.next_number()
        tokens = [number] * PROMPT
        sequence = Sequence(number, "a/a", tokens, PROMPT, PROMPT + 10 * STEPS)
        admitted.enter_context(engine.admit(Generation(sequence=sequence, rule=SamplingRule())))
    while any(sequence.left > 1 for sequence in engine.state.running) or not engine.state.running:
        await engine.step()
    started = time.perf_counter()
    for _ in range(STEPS):
        await engine.step()
    seconds = time.perf_counter() - started
    admitted.close()
    return seconds / STEPS * 1e3


def sampling_milliseconds(rule: SamplingRule, vocabulary: int) -> float:
    logits = (np.random.default_rng(1).normal(size=(BATCH, vocabulary)) * 3).astype(np.float32)
    samplers = [Sampler(SequenceOpened(sequence=row, rule=rule), vocabulary) for row in range(BATCH)]
    started, rounds = time.perf_counter(), 10
    for position in range(rounds):
        rows = [sampler.row(row, Draw(position=position)) for sampler, row in zip(samplers, logits, strict=True)]
        kernels.draw(rows)
    return (time.perf_counter() - started) / rounds * 1e3


def main() -> None:
    figures: dict[str, Any] = {"batch": BATCH, "engine_ms": round(asyncio.run(engine_milliseconds()), 3)}
    for vocabulary in (32_768, 163_840):
        times = {name: round(sampling_milliseconds(rule, vocabulary), 3) for name, rule in RULES.items()}
        figures[f"sampling_ms_{vocabulary}"] = times
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
