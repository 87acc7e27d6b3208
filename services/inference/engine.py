"""The engine role: the loop ``take, schedule, forward, emit`` around plain state (``schedule.State``).

Input: admitted generations. Output: their tokens, in ``Generation``. Between two forwards it looks at cancellations and
deadlines, and their memory is free before the next one. When the shard is lost, everything that ran waits again. It
must
not know messages, text, tensors or HTTP.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Literal

from schemas.shards import ShardReady, TokenDrawn
from services.inference.cache import PageCache
from services.inference.fairness import FairShare
from services.inference.forward import ForwardWriter, settled
from services.inference.generation import Generation, Phase
from services.inference.link import ShardLink, ShardLost
from services.inference.options import EngineOptions
from services.inference.rates import Rates
from services.inference.schedule import State, Work, advance, forget, schedule, submit, withdraw
from services.inference.sequence import Medium
from services.inference.shelf import Shelf
from shared.clock import Clock
from shared.errors import BadInput, Busy, Cancelled, DeadlineExceeded, Internal, MoontideError, Unavailable

MOST_LOSSES = 8
"""Shards lost in a row under a generation that gets no further, before it counts as their cause."""
REST_SECONDS = 0.1
"""How often an engine without work looks at deadlines of those who wait."""

log = logging.getLogger("inference")


class Engine:
    def __init__(self, shard: ShardLink, clock: Clock, *, vocabulary: int, options: EngineOptions) -> None:
        self._shard, self._clock, self._options = shard, clock, options
        self._writer = ForwardWriter(vocabulary)
        self._rates = Rates()
        self._generations: dict[int, Generation] = {}
        self._dropped: list[Generation] = []
        self._fetching: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Event()
        self._flying = False
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
        return len(self._generations) - len(self._dropped)

    @property
    def rows_left(self) -> int:
        """Rows to compute before everybody's next token."""
        return sum(generation.sequence.left for generation in self._generations.values())

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
        if self.state.cache.count(prompt + max_tokens) > self.state.cache.pages:
            tokens = self.state.cache.pages * self.state.cache.page_tokens
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
        self._generations[sequence.number] = generation
        submit(self.state, sequence)
        self._arrived.set()
        try:
            yield
        finally:
            self._drop(generation)

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
            await asyncio.wait({loop, *self._fetching})
            self._end_all(Unavailable("engine.stopped", "the engine stopped", retry_after_seconds=0.0))

    async def step(self) -> None:
        """One forward, or a rest when there is nothing to compute."""
        self._take()
        works = schedule(self.state, self._clock.monotonic_seconds())
        self._fetch()
        if not works:
            await self._rest()
            return
        started = self._clock.monotonic_seconds()
        drawn = await self._forward(works)
        if drawn is None:
            return
        self._rates.forward(sum(work.rows for work in works), self._clock.monotonic_seconds() - started)
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
        """Those who gave up while a forward ran, and deadlines."""
        dropped, self._dropped = self._dropped, []
        for generation in dropped:
            self._remove(generation)
        now = self._clock.unix_seconds()
        for generation in list(self._generations.values()):
            if generation.sequence.deadline_unix_seconds < now:
                self._end(generation, DeadlineExceeded("generation.deadline", "the deadline passed during generation"))
            elif len(generation.emitted) >= generation.sequence.max_length - generation.sequence.prompt:
                self._finish(generation, "length")

    async def _forward(self, works: list[Work]) -> dict[int, TokenDrawn] | None:
        """What was drawn, by sequence; None when the shard was lost."""
        for work in works:
            self._generations[work.sequence.number].enter(Phase.PREFILLING)
        self._flying = True
        self.largest_batch = max(self.largest_batch, len(works))
        try:
            return await self._execute(works)
        except ShardLost:
            self._lost()
            return None
        except MoontideError as error:
            log.warning("forward failed", extra={"code": error.code, "slices": len(works)})
            return await self._one_by_one(works)
        finally:
            self._flying = False

    async def _execute(self, works: list[Work]) -> dict[int, TokenDrawn]:
        done = await self._shard.execute(self._writer.write(works, self._generations, self.state))
        return {token.sequence: token for token in done.drawn}

    async def _one_by_one(self, works: list[Work]) -> dict[int, TokenDrawn] | None:
        """A row does not depend on the others: the one that fails is found by computing each alone."""
        drawn: dict[int, TokenDrawn] = {}
        for work in works:
            try:
                drawn |= await self._execute([work])
            except ShardLost:
                self._lost()
                return None
            except MoontideError as error:
                self._fail(self._generations[work.sequence.number], error)
        return drawn

    def _emit(self, works: list[Work], drawn: dict[int, TokenDrawn]) -> None:
        now = self._clock.monotonic_seconds()
        for work in works:
            generation = self._generations[work.sequence.number]
            if generation.ended:
                continue
            advance(self.state, work, now)
            if not generation.media_done and not work.sequence.media_from(work.sequence.computed):
                generation.reach_media_end()
            if work.samples:
                self._append(generation, drawn[work.sequence.number])

    def _append(self, generation: Generation, drawn: TokenDrawn) -> None:
        generation.enter(Phase.DECODING)
        drawn = settled(generation, drawn)
        if drawn.token in generation.stop_ids:
            self._finish(generation, "stop")
            return
        generation.append(drawn.token, drawn.logprobs)
        generation.sequence.losses = 0
        if len(generation.sequence.tokens) >= generation.sequence.max_length:
            self._finish(generation, "length")

    def _fetch(self) -> None:
        """Ask for the embeddings that come next."""
        for medium in self.state.shelf.wanted(self.state.running):
            task = asyncio.create_task(self._fetch_one(medium, self.state.shelf))
            self._fetching.add(task)
            task.add_done_callback(self._fetching.discard)

    async def _fetch_one(self, medium: Medium, shelf: Shelf) -> None:
        assert medium.span is not None
        waiting = [g for g in self._generations.values() if medium.key in {m.key for m in g.sequence.media}]
        for generation in waiting:
            generation.media_fetched += 1
        try:
            await self._shard.fetch(medium.key, medium.span)
            shelf.arrived(medium.key)
        except ShardLost:
            shelf.failed(medium.key)
        except MoontideError as error:
            shelf.failed(medium.key)
            for generation in waiting:
                self._fail(generation, error)
        except Exception:
            log.exception("fetching embeddings failed")
            shelf.failed(medium.key)
            for generation in waiting:
                self._fail(generation, Internal("internal", "an internal error occurred"))
        self._arrived.set()

    async def _rest(self) -> None:
        self._arrived.clear()
        try:
            async with asyncio.timeout(REST_SECONDS if self._generations else None):
                await self._arrived.wait()
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
        for generation in list(self._generations.values()):
            if generation.sequence.losses > MOST_LOSSES:
                self._end(generation, Internal("engine.poison", "shards keep failing under this generation"))

    def _start_over(self, error: MoontideError) -> None:
        """Everybody hears of it; the shard is emptied before the next forward."""
        self._flying = False
        self._about = None
        self._end_all(error)
        forget(self.state)

    def _end_all(self, error: MoontideError) -> None:
        for generation in list(self._generations.values()):
            self._end(generation, error)

    def _finish(self, generation: Generation, reason: Literal["stop", "length"]) -> None:
        generation.finish_reason = reason
        self._rates.ended()
        self._remove(generation)

    def _end(self, generation: Generation, error: MoontideError) -> None:
        generation.failure = generation.failure or error
        self._remove(generation)

    def _fail(self, generation: Generation, error: MoontideError) -> None:
        """As ``_end``, also while a forward runs on its pages."""
        generation.failure = generation.failure or error
        self._drop(generation)

    def _drop(self, generation: Generation) -> None:
        """Nobody waits any more: memory is freed at once, or when the running forward no longer writes to it."""
        if generation.sequence.number not in self._generations or generation in self._dropped:
            return
        if generation.failure is None and not generation.ended:
            generation.failure = Cancelled("generation.cancelled", "nobody waits for this generation any more")
        generation.enter(Phase.ENDED)
        if self._flying:
            self._dropped.append(generation)
        else:
            self._remove(generation)
        self._arrived.set()

    def _remove(self, generation: Generation) -> None:
        generation.enter(Phase.ENDED)
        if self._generations.pop(generation.sequence.number, None) is not None:
            withdraw(self.state, generation.sequence, self._clock.monotonic_seconds())
