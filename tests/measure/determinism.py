"""``python -m tests.measure.determinism``: the same request, the same bits, whatever happens around it.

Made-up requests (text, images, a video's chunk, greedy and seeded, penalties) run alone on an empty engine. Then they
run in forward batches of up to 64, with slices from 1 to 8,192 tokens, with cold and warm prefix, preempted for want of
pages, resumed in the middle, and on one and two threads: token ids and logprobs must not differ by a bit. Prints one
JSON object; exit code 1 on a difference, or when what it says was not reached.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import torch
from torch import Tensor

import kernels.dispatch
from kernels.weights import LinearWeight
from schemas.generation import GenerateRequest, Logprobs, MediaSpan, TokensGenerated
from services.inference.admission import encode_ids
from services.inference.compute import ComputeThread
from services.inference.handlers import GenerateHandler
from services.inference.options import EngineOptions
from services.inference.schedule import Limits
from shared.model import presets
from shared.model.checkpoint import Checkpoint, load
from shared.model.initialise import initialise
from shared.model.pages import page_bytes
from tests.unit.inference.conftest import MODEL, Blobs, Caller, context, serving

VOCABULARY = 512
GRIDS = ((1, 4, 6), (1, 2, 8), (3, 4, 6))


@dataclass(frozen=True)
class Answer:
    ids: tuple[int, ...]
    logprobs: tuple[Logprobs, ...]

    def behind(self, cut: int) -> "Answer":
        return Answer(self.ids[cut:], self.logprobs[cut:])


@dataclass(frozen=True)
class Setting:
    """What is around a request. ``spare_pages``: None for plenty, else beyond what the longest request needs."""

    name: str
    batch: int
    slice_tokens: int
    spare_pages: int | None = None
    threads: int = 1
    repeat: bool = False
    resume: bool = False
    interrupt: bool = False
    """Half of the requests are of the batch class, and run when the others come."""
    sample: int | None = None
    """So many of the requests, not all."""


BREAKS = ("", "batch-dependent-kernel")
MOST = 64
SETTINGS = (
    Setting("64 at once", MOST, 8192, threads=2),
    Setting("again with warm prefixes, slices of 16", 32, 16, repeat=True),
    Setting("preempted", 6, 64, spare_pages=1, interrupt=True),
    Setting("resumed, two threads", 2, 256, threads=2, resume=True),
    Setting("batch of 5, slices of 7", 5, 7),
)
SLICES = (1, 2, 3, 5, 13, 31, 63, 64, 65, 100, 129, 255, 512)
DRAWN = 12
"""Settings besides these, each with a batch from 2 to 64, a slice and a number of threads by chance."""


def drawn_settings(seed: int) -> list[Setting]:
    rng = random.Random(seed)
    found = []
    for _ in range(DRAWN):
        batch, slice_tokens, threads = rng.randint(2, MOST), rng.choice(SLICES), rng.choice((1, 2))
        name = f"batch of {batch}, slices of {slice_tokens}, threads: {threads}"
        found.append(Setting(name, batch, slice_tokens, threads=threads, sample=min(batch, 4 * slice_tokens)))
    return found


class Tally(msgspec.Struct):
    compared: int = 0
    different: int = 0
    preempted: int = 0
    cached_tokens: int = 0
    largest_batch: int = 0


def requests(count: int, seed: int, blobs: Blobs) -> list[GenerateRequest]:
    """Half of them share one of two prefixes."""
    rng = random.Random(seed)
    shared = [[rng.randrange(VOCABULARY) for _ in range(130)] for _ in range(2)]
    return [_request(rng, shared, number, blobs) for number in range(count)]


def _request(rng: random.Random, shared: list[list[int]], number: int, blobs: Blobs) -> GenerateRequest:
    prompt = list(rng.choice(shared)) if rng.random() < 0.5 else []
    media: list[MediaSpan] = []
    for _ in range(rng.choice((0, 0, 1, 2))):
        prompt += [rng.randrange(VOCABULARY) for _ in range(rng.randrange(1, 40))]
        media.append(_medium(rng, len(prompt), blobs))
        prompt += [9] * media[-1].tokens
    prompt += [rng.randrange(VOCABULARY) for _ in range(rng.randrange(1, 60))]
    seeded = rng.random() < 0.6
    return GenerateRequest(
        model=MODEL,
        prompt_ids=encode_ids(prompt),
        media=tuple(media),
        max_tokens=rng.randrange(3, 12),
        temperature=rng.choice((0.7, 1.5)) if seeded else 0.0,
        top_p=rng.choice((1.0, 0.9)),
        top_k=rng.choice((0, 20)),
        seed=number,
        stop_ids=(),
        presence_penalty=rng.choice((0.0, 0.5)),
        repetition_penalty=rng.choice((1.0, 1.2)),
        top_logprobs=2,
    )


def _medium(rng: random.Random, position: int, blobs: Blobs) -> MediaSpan:
    grid, which = rng.choice(GRIDS), rng.randrange(3)
    size = grid[0] * grid[1] * grid[2] * 3 * 14 * 14
    data = random.Random(which).randbytes(size)
    patches = blobs.put(f"patches-{which}-{size}", data)
    return MediaSpan(position=position, tokens=grid[1] * grid[2] // 4, grid=grid, patches=patches)


async def answers(
    checkpoint: Checkpoint, bodies: list[GenerateRequest], blobs: Blobs, setting: Setting, tally: Tally
) -> list[Answer]:
    """All of them on one fresh engine, submitted together."""
    options = EngineOptions(limits=Limits(slots=setting.batch, slice_tokens=setting.slice_tokens), max_queue=4096)
    with ComputeThread(setting.threads) as compute:
        async with serving(checkpoint, blobs, compute, options, _cache_bytes(checkpoint, bodies, setting)) as handler:
            for _ in range(2 if setting.repeat else 1):
                callers = await _together(handler, bodies, interrupt=setting.interrupt)
            tally.preempted += handler.engine.preempted
            tally.cached_tokens += sum(caller.finished.cached_tokens for caller in callers)
            tally.largest_batch = max(tally.largest_batch, handler.engine.largest_batch)
    return [_answer(caller) for caller in callers]


async def _together(handler: GenerateHandler, bodies: list[GenerateRequest], *, interrupt: bool) -> list[Caller]:
    callers = [Caller() for _ in bodies]
    pairs = list(zip(bodies, callers, strict=True))
    early, late = (pairs[::2], pairs[1::2]) if interrupt else ([], pairs)
    later_class = msgspec.structs.replace(context(3600), priority="batch")
    running = [asyncio.create_task(handler(later_class, body, caller)) for body, caller in early]
    if early:
        await early[0][1].first.wait()
    await asyncio.gather(*running, *(handler(context(3600), body, caller) for body, caller in late))
    return callers


def _cache_bytes(checkpoint: Checkpoint, bodies: list[GenerateRequest], setting: Setting) -> int:
    text = checkpoint.network.language_model
    longest = max(-(-(len(body.prompt_ids) // 4 + body.max_tokens) // 64) for body in bodies)  # type: ignore[arg-type]
    pages = 4096 if setting.spare_pages is None else longest + setting.spare_pages
    return pages * page_bytes(checkpoint.config.text, len(text.layers), text.dtype)


def _answer(caller: Caller) -> Answer:
    pieces = [item for item in caller.items if isinstance(item, TokensGenerated)]
    return Answer(tuple(caller.ids), tuple(logprobs for piece in pieces for logprobs in piece.logprobs))


async def compare(checkpoint: Checkpoint, count: int, seed: int) -> dict[str, Any]:
    """At least ``count`` comparisons over all settings."""
    blobs, tally = Blobs(), Tally()
    bodies = requests(-(-count // len(SETTINGS)), seed, blobs)
    alone: list[Answer] = []
    for body in bodies:
        alone += await answers(checkpoint, [body], blobs, Setting("alone", 1, 64), Tally())
    pairs, rng = list(zip(bodies, alone, strict=True)), random.Random(seed)
    rows: dict[str, int] = {}
    for setting in (*SETTINGS, *drawn_settings(seed)):
        chosen = pairs if setting.sample is None else rng.sample(pairs, min(setting.sample, len(pairs)))
        rows[setting.name] = await _differing(checkpoint, chosen, blobs, setting, tally)
        tally.compared += len(chosen)
        tally.different += rows[setting.name]
        print(f"{setting.name}: {rows[setting.name]} of {len(chosen)} differ", file=sys.stderr)
    return {"seed": seed, "different_by_setting": rows} | msgspec.to_builtins(tally)


async def _differing(
    checkpoint: Checkpoint, pairs: list[tuple[GenerateRequest, Answer]], blobs: Blobs, setting: Setting, tally: Tally
) -> int:
    """How many requests get another answer than alone."""
    cuts = [len(answer.ids) // 2 if setting.resume else 0 for _, answer in pairs]
    asked = [
        msgspec.structs.replace(body, emitted_ids=encode_ids(list(answer.ids[:cut])))
        for (body, answer), cut in zip(pairs, cuts, strict=True)
    ]
    found = await answers(checkpoint, asked, blobs, setting, tally)
    expected = [answer.behind(cut) for (_, answer), cut in zip(pairs, cuts, strict=True)]
    return sum(a != b for a, b in zip(found, expected, strict=True))


@contextmanager
def planted(broken: str) -> Iterator[None]:
    """A product that rounds otherwise for more than one row, while entered."""
    exact = kernels.dispatch.linear

    def tainted(x: Tensor, weight: LinearWeight, out: torch.dtype | None = None) -> Tensor:
        return exact(x, weight, out) * (1 + 1e-6 * torch.tensor(float(len(x) > 1)))

    if not broken:
        yield
        return
    with patch.object(kernels.dispatch, "linear", tainted):
        yield


def tiny(folder: Path, dtype: str) -> Checkpoint:
    initialise(folder, presets.document("tiny", VOCABULARY), seed=7, tokenizer_config=None)
    return load(folder, dtype=getattr(torch, dtype))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.determinism")
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--break", dest="broken", choices=BREAKS, default="", help="a fault that must be found")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the computation")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moontide-determinism-") as name, planted(parsed.broken):
        result = asyncio.run(compare(tiny(Path(name) / "tiny", parsed.dtype), parsed.cases, parsed.seed))
    print(json.dumps(result))
    reached = (
        result["preempted"] and result["cached_tokens"] and result["largest_batch"] >= min(MOST, parsed.cases // 5)
    )
    return 0 if reached and not result["different"] else 1


if __name__ == "__main__":
    sys.exit(main())
