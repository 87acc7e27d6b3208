"""The engine role: the loop ``take, schedule, forward, emit`` around plain state (``schedule.State``).

Input: admitted generations. Output: their tokens, in ``Generation``. Between two forwards it looks at cancellations and
deadlines, and their memory is free before the next one. When the shard is lost, everything that ran waits again. It
must not know messages, text, tensors or HTTP.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from schemas.shards import ShardReady, TokenDrawn
from services.inference.arrivals import Arrivals
from services.inference.cache import PageCache
from services.inference.fairness import FairShare
from services.inference.forward import ForwardWriter
from services.inference.generation import Generation, Phase
from services.inference.link import ShardLink, ShardLost
from services.inference.options import EngineOptions
from services.inference.rates import Rates
from services.inference.roster import Roster
from services.inference.schedule import State, Work, advance, forget, schedule, submit, withdraw
from services.inference.sequence import Sequence
from services.inference.shelf import Shelf
from shared.clock import Clock
from shared.errors import BadInput, Busy, Internal, MoontideError, Unavailable

MOST_LOSSES = 8
"""Shards lost in a row under a generation that gets no further, before it counts as their cause."""
REST_SECONDS = 0.1
"""How often an engine without work looks at deadlines of those who wait."""

Drawn = dict[int, TokenDrawn]
"""By number of the sequence."""

log = logging.getLogger("inference")


class Engine:
    def __init__(self, shard: ShardLink, clock: Clock, *, vocabulary: int, options: EngineOptions) -> None:
        self._shard, self._clock, self._options = shard, clock, options
        self._writer = ForwardWriter(vocabulary)
        self._rates = Rates()
        self._roster = Roster(self._withdraw)
        self._arrivals = Arrivals(shard, self._roster)
        self._numbers = 0
        self.largest_batch = 0
        """Slices in the largest forward batch so far."""
        self._about: ShardReady | None = None
        self._said: ShardReady | None = None
        self._state: State | None = None

    @property
    def state(self) -> State:
        assert self._state is not None, "there is a shard once the engine runs"
        return self._state

    @property
    def about(self) -> ShardReady:
        """What the shard said of itself, the last one while there is none."""
        assert self._said is not None, "there is a shard once the engine runs"
        return self._said

    @property
    def load(self) -> int:
        """Generations that wait or run, and are still wanted."""
        return self._roster.load

    @property
    def rows_left(self) -> int:
        """Rows to compute before everybody's next token."""
        return self._roster.rows_left

    @property
    def preempted(self) -> int:
        """Preemptions so far."""
        return self.state.preempted

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def check_room(self, prompt: int = 1, max_tokens: int = 1) -> None:
        """Raise BadInput for what the cache can never hold, Busy with an honest retry-after for what is too much
        now."""
        cache = self.state.cache
        if cache.count(prompt + max_tokens) > cache.pages:
            tokens = cache.pages * cache.page_tokens
            message = (
                f"{prompt} prompt tokens and max_tokens {max_tokens} exceed this engine's cache of {tokens} tokens"
            )
            raise BadInput("generation.too_long", message, param="max_tokens")
        excess = self.load + 1 - self._options.max_queue
        rows = self.rows_left + prompt - self._options.max_queued_tokens
        if excess > 0 or (rows > 0 and self.load):
            seconds = self._rates.retry_after(max(excess, 0), max(rows, 0))
            raise Busy("engine.busy", "the engine's queue is full", retry_after_seconds=seconds)

    @contextmanager
    def admit(self, generation: Generation) -> Iterator[None]:
        """In the queue while entered; leaving drops what is left to do. Raises BadInput or Busy as ``check_room``."""
        sequence = generation.sequence
        self.check_room(len(sequence.tokens), sequence.max_length - len(sequence.tokens))
        submit(self.state, sequence)
        self._roster.join(generation)
        try:
            yield
        finally:
            self._roster.leave(generation)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The loop runs while entered. Left: what still waits fails as Unavailable, so that callers go elsewhere.
        Raises Unavailable when there is no shard."""
        await self._connect()
        loop = asyncio.create_task(self._run(), name="engine")
        try:
            yield
        finally:
            loop.cancel()
            await asyncio.wait({loop})
            await self._arrivals.finish()
            self._roster.end_all(Unavailable("engine.stopped", "the engine stopped", retry_after_seconds=0.0))

    async def step(self) -> None:
        """One forward, or a rest when there is nothing to compute."""
        self._take()
        works = self._schedule()
        drawn = await self._forward(works)
        self._emit(works, drawn)

    async def _run(self) -> None:
        while True:
            try:
                if self._about is None:
                    await self._connect()
                await self.step()
            except MoontideError as error:
                self._start_over(error)
                await self._clock.sleep(REST_SECONDS)
            except Exception:
                log.exception("step failed")  # a mistake of ours: nothing of this state can be trusted
                self._start_over(Internal("internal", "an internal error occurred"))
                await self._clock.sleep(REST_SECONDS)

    def _take(self) -> None:
        self._roster.take(self._clock.unix_seconds())

    def _schedule(self) -> list[Work]:
        works = schedule(self.state, self._clock.monotonic_seconds())
        self._arrivals.fetch(self.state)
        return works

    async def _forward(self, works: list[Work]) -> Drawn | None:
        """What was drawn; None when nothing was computed: for want of work, or of a shard."""
        if not works:
            await self._rest()
            return None
        for work in works:
            self._roster[work.sequence.number].enter(Phase.PREFILLING)
        self.largest_batch = max(self.largest_batch, len(works))
        started = self._clock.monotonic_seconds()
        self._roster.flying = True
        try:
            drawn = await self._execute_or_isolate(works)
        except ShardLost:
            self._lost()
            return None
        finally:
            self._roster.flying = False
        self._rates.forward(sum(work.rows for work in works), self._clock.monotonic_seconds() - started)
        return drawn

    async def _execute_or_isolate(self, works: list[Work]) -> Drawn:
        """Raises ShardLost."""
        try:
            return await self._execute(works)
        except ShardLost:
            raise
        except MoontideError as error:
            log.warning("forward failed", extra={"code": error.code, "slices": len(works)})
            return await self._one_by_one(works)

    async def _execute(self, works: list[Work]) -> Drawn:
        done = await self._shard.execute(self._writer.write(works, self._roster, self.state))
        return {token.sequence: token for token in done.drawn}

    async def _one_by_one(self, works: list[Work]) -> Drawn:
        """A row does not depend on the others: the one that fails is found by computing each alone."""
        drawn: Drawn = {}
        for work in works:
            try:
                drawn |= await self._execute([work])
            except ShardLost:
                raise
            except MoontideError as error:
                self._roster.fail(self._roster[work.sequence.number], error)
        return drawn

    def _emit(self, works: list[Work], drawn: Drawn | None) -> None:
        if drawn is None:
            return
        now, finished = self._clock.monotonic_seconds(), self._roster.finished
        for work in works:
            generation = self._roster[work.sequence.number]
            if generation.ended:
                continue
            advance(self.state, work, now)
            if not generation.media_done and not work.sequence.media_from(work.sequence.computed):
                generation.reach_media_end()
            if work.samples:
                self._roster.append(generation, drawn[work.sequence.number])
        for _ in range(self._roster.finished - finished):
            self._rates.ended()

    async def _rest(self) -> None:
        self._roster.stirred.clear()
        try:
            async with asyncio.timeout(REST_SECONDS if self._roster else None):
                await self._roster.stirred.wait()
        except TimeoutError:
            return

    async def _connect(self) -> None:
        """Plain state for an empty shard. Raises Unavailable."""
        self._about = self._said = about = await self._shard.ready()
        if self._state is None or about.pages != self._state.cache.pages:
            self._state = self._fresh(about, self._state)

    def _fresh(self, about: ShardReady, old: State | None) -> State:
        """Plain state for an empty shard; who waits goes on waiting."""
        options = self._options
        state = State(
            cache=PageCache(about.pages, about.page_tokens, heed_pauses=options.heed_pauses),
            shelf=Shelf(options.embedding_bytes, about.embedding_bytes),
            limits=options.limits,
            share=FairShare(options.weights),
        )
        if old is not None:
            state.share, state.interactive, state.batch = old.share, old.interactive, old.batch
            state.turns, state.preempted = old.turns, old.preempted
        return state

    def _lost(self) -> None:
        log.warning("shard lost", extra={"running": len(self.state.running)})
        self._about = None
        for sequence in self.state.running:
            sequence.losses += 1
        forget(self.state)
        for generation in self._roster:
            if generation.sequence.losses > MOST_LOSSES:
                self._roster.end(generation, Internal("engine.poison", "shards keep failing under this generation"))

    def _start_over(self, error: MoontideError) -> None:
        """Everybody hears of it; the shard is emptied before the next forward."""
        self._about = None
        self._roster.end_all(error)
        forget(self.state)

    def _withdraw(self, sequence: Sequence) -> None:
        withdraw(self.state, sequence, self._clock.monotonic_seconds())
