"""Schedule, page tables and prefix tree as a state machine: nothing is lost, nothing leaks, every answer is right."""

import asyncio
import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from schemas.blobs import BlobRef
from schemas.generation import MediaSpan
from schemas.shards import SamplingRule
from services.inference.cache import PageCache
from services.inference.fairness import FairShare
from services.inference.forward import ForwardWriter
from services.inference.generation import Generation
from services.inference.schedule import Limits, State, advance, forget, preempt, schedule, submit, withdraw
from services.inference.sequence import Medium, Sequence
from services.inference.shelf import Shelf
from tests.chaos.stand_in import PLACEHOLDER, VOCABULARY, StandIn, expected

PAGES, PAGE = 12, 4


class Still:
    def unix_seconds(self) -> float:
        return 0.0

    def monotonic_seconds(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        return None


def medium(position: int, which: int) -> Medium:
    span = MediaSpan(position=position, tokens=3, grid=(1, 2, 6), patches=BlobRef(key=f"m{which}", size_bytes=1))
    return Medium.of(span)


class Machine(RuleBasedStateMachine):
    """Prompts are made of few distinct tokens, so that prefixes are shared, and longer than a page."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State(
            PageCache(PAGES, PAGE), Shelf(limit_bytes=3 * 8, row_bytes=8), Limits(3, 5, 2.0), FairShare({"b/b": 2.0})
        )
        self.shard = StandIn(Still(), pages=PAGES, page_tokens=PAGE, row_seconds=0.0)
        self.writer = ForwardWriter(VOCABULARY)
        self.living: dict[int, Generation] = {}
        self.count, self.now = 0, 0.0

    @rule(
        owner=st.sampled_from(["a/a", "b/b", "c/c"]),
        batch=st.booleans(),
        shape=st.lists(st.integers(0, 1), min_size=1, max_size=9),
        media=st.lists(st.integers(0, 2), max_size=2),
        answer=st.integers(1, 8),
        pause=st.sampled_from([0.0, 3.0]),
    )
    def ask(self, owner: str, batch: bool, shape: list[int], media: list[int], answer: int, pause: float) -> None:
        prompt, placed = [1, 1, 1, 1], list[Medium]()
        for which in media:
            placed.append(medium(len(prompt), which))
            prompt += [PLACEHOLDER] * 3
        prompt += shape
        self.count += 1
        sequence = Sequence(
            self.count, owner, prompt, len(prompt), len(prompt) + answer, batch, tuple(placed), pause_seconds=pause
        )
        self.living[self.count] = Generation(sequence=sequence, rule=SamplingRule())
        submit(self.state, sequence)

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.living))))

    @precondition(lambda self: self.state.running)
    @rule(data=st.data())
    def interrupt(self, data: st.DataObject) -> None:
        preempt(self.state, data.draw(st.sampled_from(self.state.running)), self.now)

    @rule()
    def lose(self) -> None:
        forget(self.state)
        self.shard._empty()

    @rule(steps=st.integers(1, 6))
    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        self.now += 0.5
        works = schedule(self.state, self.now)
        for wanted in self.state.shelf.wanted(self.state.running):
            assert wanted.span is not None
            asyncio.run(self.shard.fetch(wanted.key, wanted.span))
            self.state.shelf.arrived(wanted.key)
        if not works:
            return
        done = asyncio.run(self.shard.execute(self.writer.write(works, self.living, self.state)))
        drawn = {token.sequence: token.token for token in done.drawn}
        for work in works:
            advance(self.state, work, self.now)
            if work.samples:
                self.took(work.sequence, drawn[work.sequence.number])

    def took(self, sequence: Sequence, token: int) -> None:
        generation = self.living[sequence.number]
        generation.append(token, None)
        media = [(m.position, m.tokens, m.key) for m in sequence.media]
        emitted = sequence.tokens[sequence.prompt :]
        assert emitted == expected(sequence.tokens[: sequence.prompt], media, len(emitted))
        if len(sequence.tokens) == sequence.max_length:
            self.end(sequence.number)

    def end(self, number: int) -> None:
        withdraw(self.state, self.living.pop(number).sequence, self.now)

    @invariant()
    def nothing_leaks(self) -> None:
        self.state.cache.check_invariants(self.state.running)
        assert self.state.shelf.bytes <= 3 * 8
        assert len(self.state.running) <= 3
        assert len(self.state.running) + self.state.waiting == len(self.living)

    def teardown(self) -> None:
        """Everything that was asked for ends, and its memory is available again."""
        for _ in range(2000):
            if not self.living:
                break
            self.step()
        assert not self.living
        assert self.state.cache.available == PAGES


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_equal_placeholders_of_different_media_never_match() -> None:
    cache = PageCache(8, 4)
    first = Sequence(1, "a/a", [PLACEHOLDER] * 9, 9, 10, media=(medium(1, 0),))
    cache.open(first)
    assert cache.grow(first, 9, 0.0)
    first.computed = 9
    cache.publish(first)
    for which, position, found in ((0, 1, 8), (1, 1, 0), (0, 2, 0)):
        other = Sequence(2, "a/a", [PLACEHOLDER] * 9, 9, 10, media=(medium(position, which),))
        assert cache.open(other) == found
        cache.close(other, 0.0)
    cache.close(first, 0.0)
    cache.check_invariants([])


def test_memory_per_sequence_is_the_formula() -> None:
    cache = PageCache(40, 64)
    rng = random.Random(1)
    for length in (1, 63, 64, 65, 1000):
        sequence = Sequence(1, "a/a", [rng.randrange(9) for _ in range(length)], length, length + 1)
        assert cache.open(sequence) == 0
        assert cache.grow(sequence, length, 0.0)
        assert cache.free == 40 - -(-length // 64)
        cache.close(sequence, 0.0)
        assert cache.free == 40
    huge = Sequence(2, "a/a", [0] * (40 * 64 + 1), 1, 9999)
    assert not cache.grow(huge, len(huge.tokens), 0.0)
    assert cache.free == 40
