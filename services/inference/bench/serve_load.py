"""A whole engine in this process, and sessions that load it: engine, encoder and layers as served, without the bus.

Input: a checkpoint directory, a number of pages, sessions. Output: a ``Tally`` of what they met. It must not know how
the figures are shown.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from schemas.blobs import BlobRef
from schemas.generation import MediaSpan
from schemas.shards import SamplingRule
from services.inference.app import local_shard
from services.inference.bench.serve_traffic import PLACEHOLDER, Call, Session
from services.inference.compute import ComputeThread
from services.inference.config import InferenceConfig
from services.inference.encoder import Encoder
from services.inference.engine import Engine
from services.inference.generation import Generation
from services.inference.loading import default_threads
from services.inference.options import EngineOptions
from services.inference.sequence import Medium, Sequence
from shared.clock import Clock, SystemClock
from shared.errors import Busy
from shared.model.checkpoint import load
from shared.model.config import ModelConfig
from shared.model.pages import page_bytes

PATCH_BYTES = 3 * 14 * 14
ENCODER_CACHE_BYTES = 2**20


@dataclass
class Tally:
    """What the sessions met. ``keep_times`` false: only counts, so that a long load does not grow by them."""

    keep_times: bool = True
    first_token_seconds: list[float] = field(default_factory=list)
    token_seconds: list[float] = field(default_factory=list)
    """Between a token and the one before it."""
    calls: int = 0
    busy: int = 0
    """Refusals with a retry-after, which was heeded."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    media: int = 0
    peak_pages: int = 0
    """Of running sequences, prefixes that they share once."""
    odd_tables: int = 0
    """Sequences seen with another number of pages than their length says."""


MOST_OPEN = 100_000
"""Sessions at once, where nothing else is said."""


class PictureBook:
    """Patches that are made from their grid whenever asked for."""

    async def get(self, ref: BlobRef) -> bytes:
        return random.Random(ref.key).randbytes(ref.size_bytes)


class Rig:
    def __init__(self, engine: Engine, config: ModelConfig, clock: Clock) -> None:
        self.engine, self.config, self.clock = engine, config, clock
        self.tally = Tally()
        self.at_end: Callable[[Sequence], None] = lambda sequence: None
        """Told of each call that has ended."""

    async def load(self, sessions: Iterator[Session], seconds: float, most_open: int | None = None) -> None:
        """Sessions that arrive in the first ``seconds``, each to its end. With ``most_open`` the next one waits until
        fewer are open: the load is the same on a machine that is too slow for the arrivals."""
        started = self.clock.monotonic_seconds()
        room = asyncio.Semaphore(most_open or MOST_OPEN)
        async with asyncio.TaskGroup() as group:
            for session in sessions:
                await room.acquire()
                due = max(started + session.arrives_seconds, self.clock.monotonic_seconds() if most_open else 0.0)
                if due > started + seconds:
                    break
                await self.clock.sleep(max(0.0, due - self.clock.monotonic_seconds()))
                group.create_task(self._session(session, due)).add_done_callback(lambda _: room.release())

    async def _session(self, session: Session, due: float) -> None:
        history: list[int] = []
        media: list[Medium] = []
        for call in session.calls:
            history += call.tokens
            if call.grid is not None:
                media.append(_picture(call.grid, len(history)))
                history += [PLACEHOLDER] * media[-1].tokens
            history = await self._patiently(session.owner, call, history, tuple(media), due)
            await self.clock.sleep(call.pause_seconds)
            due = self.clock.monotonic_seconds()

    async def _patiently(
        self, owner: str, call: Call, prompt: list[int], media: tuple[Medium, ...], due: float
    ) -> list[int]:
        while True:
            try:
                return await self._call(owner, call, prompt, media, due)
            except Busy as busy:
                self.tally.busy += 1
                await self.clock.sleep(busy.retry_after_seconds or 1.0)

    async def _call(
        self, owner: str, call: Call, prompt: list[int], media: tuple[Medium, ...], due: float
    ) -> list[int]:
        """Prompt and answer."""
        number = self.engine.next_number()
        sequence = Sequence(
            number,
            owner,
            list(prompt),
            len(prompt),
            len(prompt) + call.answer_tokens,
            media=media,
            pause_seconds=call.announced_seconds,
        )
        generation = Generation(sequence, SamplingRule(temperature=0.8, top_p=0.95, seed=number))
        with self.engine.admit(generation):
            await self._follow(generation, call.answer_tokens, due)
        self._count(sequence)
        self.at_end(sequence)
        return sequence.tokens

    async def _follow(self, generation: Generation, tokens: int, due: float) -> None:
        """Raises what the generation failed with."""
        seen, before = 0, due
        while seen < tokens:
            await generation.grow(seen)
            now = self.clock.monotonic_seconds()
            if self.tally.keep_times:
                (self.tally.token_seconds if seen else self.tally.first_token_seconds).append(now - before)
            seen, before = len(generation.emitted), now
            self._look(generation)

    def _look(self, generation: Generation) -> None:
        cache, sequence = self.engine.state.cache, generation.sequence
        self.tally.peak_pages = max(self.tally.peak_pages, cache.pages - cache.available)
        if sequence in self.engine.state.running:
            computed, known = cache.count(sequence.computed), cache.count(len(sequence.tokens))
            self.tally.odd_tables += not computed <= len(sequence.table) <= known

    def _count(self, sequence: Sequence) -> None:
        tally = self.tally
        tally.calls += 1
        tally.prompt_tokens += sequence.prompt
        tally.cached_tokens += sequence.cached_tokens
        tally.answer_tokens += len(sequence.tokens) - sequence.prompt
        tally.media += len(sequence.media)


def _picture(grid: tuple[int, int, int], position: int) -> Medium:
    frames, height, width = grid
    patches = BlobRef(key=f"{frames}-{height}-{width}", size_bytes=frames * height * width * PATCH_BYTES)
    return Medium.of(MediaSpan(position=position, tokens=height * width // 4, grid=grid, patches=patches))


@asynccontextmanager
async def rig(directory: Path, pages: int, options: EngineOptions | None = None) -> AsyncIterator[Rig]:
    """The engine runs while entered. Raises BadInput for what is no checkpoint."""
    clock = SystemClock()
    checkpoint = load(directory, dtype=torch.float32)
    text = checkpoint.network.language_model
    size = page_bytes(checkpoint.config.text, len(text.layers), text.dtype)
    config = InferenceConfig(checkpoint_dir=directory, cache_bytes=pages * size)
    with ComputeThread(default_threads(directory)) as compute:
        encoder = Encoder(checkpoint.network, compute, PictureBook(), ENCODER_CACHE_BYTES)
        shard = await local_shard(config, checkpoint, compute, encoder)
        engine = Engine(shard, clock, vocabulary=text.config.vocab_size, options=options or EngineOptions())
        async with engine.running():
            yield Rig(engine, checkpoint.config, clock)
