"""The engine role: a bounded queue of generations and the loop ``take, schedule, forward, emit``; one at a time.

Input: admitted generations. Output: their tokens, in ``Generation``. Between two steps it looks at cancellation and
deadline. It must not know messages, text or HTTP.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

from services.inference.compute import ComputeThread
from services.inference.generation import Generation, Phase
from services.inference.schedule import Work, next_work
from services.inference.shard import Shard
from shared.clock import Clock
from shared.errors import Busy, Cancelled, DeadlineExceeded, Internal, MoontideError, Unavailable

RETRY_AFTER_SECONDS = 1.0

log = logging.getLogger("inference")


class Engine:
    def __init__(
        self, shard: Shard, compute: ComputeThread, clock: Clock, *, max_queue: int, slice_tokens: int
    ) -> None:
        self._shard, self._compute, self._clock = shard, compute, clock
        self._max_queue, self._slice_tokens = max_queue, slice_tokens
        self._queue: deque[Generation] = deque()
        self._arrived = asyncio.Event()

    @property
    def load(self) -> int:
        """Generations that are queued or running."""
        return len(self._queue)

    def check_room(self) -> None:
        """Raise Busy when another generation would not fit."""
        if self.load >= self._max_queue:
            raise Busy("engine.busy", "the engine's queue is full", retry_after_seconds=RETRY_AFTER_SECONDS)

    @contextmanager
    def admit(self, generation: Generation) -> Iterator[None]:
        """In the queue while entered; leaving drops what is left to do. Raises Busy when the queue is full."""
        self.check_room()
        self._queue.append(generation)
        self._arrived.set()
        try:
            yield
        finally:
            generation.cancelled = True
            if generation in self._queue:
                self._queue.remove(generation)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The loop runs while entered. Left: what still waits fails as Unavailable, so that callers go elsewhere."""
        loop = asyncio.create_task(self._run(), name="engine")
        try:
            yield
        finally:
            loop.cancel()
            await asyncio.wait({loop})
            for generation in self._queue:
                self._end(generation, Unavailable("engine.stopped", "the engine stopped", retry_after_seconds=0.0))

    async def step(self) -> None:
        """One forward of the generation whose turn it is."""
        generation = await self._take()
        try:
            work = next_work(len(generation.prompt), len(generation.emitted), generation.computed, self._slice_tokens)
            token = await self._forward(generation, work)
            self._emit(generation, work, token)
        except MoontideError as error:
            self._end(generation, error)
        except Exception:
            log.exception("step failed")  # a mistake of ours in one generation must not stop the others
            self._end(generation, Internal("internal", "an internal error occurred"))

    async def _run(self) -> None:
        while True:
            await self.step()

    async def _take(self) -> Generation:
        """The first generation that somebody still waits for."""
        while True:
            while self._queue:
                generation = self._queue[0]
                if generation.phase is not Phase.ENDED and not self._give_up(generation):
                    return generation
                self._queue.popleft()
            self._arrived.clear()
            await self._arrived.wait()

    def _give_up(self, generation: Generation) -> bool:
        if generation.cancelled:
            self._end(generation, Cancelled("generation.cancelled", "nobody waits for this generation any more"))
        elif self._clock.unix_seconds() > generation.deadline_unix_seconds:
            self._end(generation, DeadlineExceeded("generation.deadline", "the deadline passed during generation"))
        elif len(generation.emitted) >= generation.max_tokens:
            self._finish(generation, "length")
        else:
            return False
        return True

    async def _forward(self, generation: Generation, work: Work) -> int | None:
        """The next token where the work asks for one, else None."""
        if generation.state is None:
            generation.state = self._shard.open(generation.media)
            generation.enter(Phase.PREFILLING)
        state, shard = generation.state, self._shard

        def compute() -> int | None:
            if work.prefill:
                hidden = shard.prefill(state, generation.prompt[work.start : work.end])
            else:
                hidden = shard.decode(state, generation.emitted[work.start - len(generation.prompt)])
            return shard.sample(hidden, generation.rule, generation.emitted) if work.samples else None

        return await self._compute.run(compute)

    def _emit(self, generation: Generation, work: Work, token: int | None) -> None:
        generation.computed = work.end
        if token is None:
            return
        if generation.phase < Phase.DECODING:
            generation.enter(Phase.DECODING)
        if token in generation.stop_ids:
            self._finish(generation, "stop")
            return
        generation.append(token)
        if len(generation.emitted) >= generation.max_tokens:
            self._finish(generation, "length")

    def _finish(self, generation: Generation, reason: Literal["stop", "length"]) -> None:
        generation.finish_reason = reason
        generation.enter(Phase.ENDED)

    def _end(self, generation: Generation, error: MoontideError) -> None:
        if generation.phase is not Phase.ENDED:
            generation.failure = error
            generation.enter(Phase.ENDED)
