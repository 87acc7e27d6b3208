"""Fair shares, bounds of waiting, order of classes, and what prefixes are worth; on the real schedule in virtual
time."""

import random
from collections import Counter

import pytest

from services.inference.bench.serve_agents import measure
from services.inference.cache import PageCache
from services.inference.fairness import FairShare
from services.inference.rates import Rates
from services.inference.schedule import Limits, State, Work, advance, schedule, submit, withdraw
from services.inference.sequence import Sequence
from services.inference.shelf import Shelf

PAGE = 16


class Line:
    """A schedule that is stepped by hand. Every step takes a tenth of a second."""

    def __init__(self, *, pages: int = 4000, weights: dict[str, float] | None = None, **limits: float) -> None:
        values = {"slots": 8, "slice_tokens": 64} | limits
        self.state = State(PageCache(pages, PAGE), Shelf(1, 1), Limits(**values), FairShare(weights))  # type: ignore[arg-type]
        self.rng, self.now, self.numbers = random.Random(1), 0.0, 0
        self.rows: Counter[str] = Counter()
        self.ended: set[int] = set()

    def ask(self, owner: str, prompt: int, answer: int, *, batch: bool = False) -> Sequence:
        self.numbers += 1
        tokens = [self.rng.randrange(10**6) for _ in range(prompt)]
        sequence = Sequence(self.numbers, owner, tokens, prompt, prompt + answer, batch)
        submit(self.state, sequence)
        return sequence

    def step(self) -> list[Work]:
        self.now += 0.1
        works = schedule(self.state, self.now)
        for work in works:
            advance(self.state, work, self.now)
            self.rows[work.sequence.owner] += work.rows
            if work.samples:
                work.sequence.tokens.append(0)
                if len(work.sequence.tokens) >= work.sequence.max_length:
                    withdraw(self.state, work.sequence, self.now)
                    self.ended.add(work.sequence.number)
        self.state.cache.check_invariants(self.state.running)
        return works

    def steps_to_first_token(self, sequence: Sequence) -> int:
        for step in range(1, 10_000):
            self.step()
            if len(sequence.tokens) > sequence.prompt:
                return step
        raise AssertionError("no token")


def test_forwards_keep_to_their_budget_and_decode_beside_prefill() -> None:
    line = Line()
    first = line.ask("a/a", 10, 50)
    line.step()
    line.ask("a/a", 1000, 5)
    for _ in range(10):
        works = line.step()
        assert sum(work.rows for work in works if work.rows > 1) <= 64
        assert any(work.sequence is first for work in works)


@pytest.mark.parametrize("shape", [(200, 30), (20, 100), (None, None)])
def test_four_keys_get_their_weights_within_a_tenth(shape: tuple[int | None, int | None]) -> None:
    weights = {"a/1": 1.0, "a/2": 2.0, "a/3": 3.0, "a/4": 4.0}
    line = Line(weights=weights, slots=16, pages=600)
    for step in range(2500):
        for owner in weights:
            while sum(s.owner == owner for s in line.state.interactive) < 12:
                line.ask(owner, shape[0] or line.rng.randrange(5, 300), shape[1] or line.rng.randrange(5, 80))
        line.step()
        if step == 200:
            line.rows.clear()
    total = sum(line.rows.values())
    for owner, weight in weights.items():
        assert line.rows[owner] / total == pytest.approx(weight / 10, rel=0.1), line.rows


@pytest.mark.parametrize("prompt", [30, 200, 640])
def test_a_flood_by_one_key_delays_the_first_token_of_another_by_a_bound(prompt: int) -> None:
    """With n equal keys, of which others may flood: the forward that runs, and n times the forwards of one's own prompt
    alone, and one. Whatever the flood's slots, pages and lengths."""
    line = Line(pages=1000)
    for _ in range(300):
        line.ask("flood/1", line.rng.randrange(50, 600), line.rng.randrange(100, 500))
    for _ in range(100):
        line.step()
    assert line.steps_to_first_token(line.ask("quiet/1", prompt, 5)) <= 2 * -(-prompt // 64) + 2


def test_interactive_comes_before_batch_and_batch_is_never_starved() -> None:
    line = Line(slots=4, batch_patience_seconds=3.0)
    slow = [line.ask("b/b", 100, 20, batch=True) for _ in range(6)]
    line.step()
    for _ in range(2000):
        while len(line.state.interactive) < 5:
            line.ask("a/a", 60, 30)
        line.step()
        if {sequence.number for sequence in slow} <= line.ended:
            break
    assert {sequence.number for sequence in slow} <= line.ended
    fresh = Line(slots=4)
    for _ in range(6):
        fresh.ask("b/b", 10, 500, batch=True)
    for _ in range(10):
        fresh.step()
    assert fresh.steps_to_first_token(fresh.ask("a/a", 40, 5)) <= 2


def test_a_large_request_is_passed_by_a_bounded_number_of_small_ones() -> None:
    line = Line(pages=40)
    for _ in range(8):
        line.ask("a/a", 60, 40)
    line.step()
    large = line.ask("b/b", 600, 3)
    for _ in range(3000):
        while len(line.state.interactive) < 5:
            line.ask("a/a", 60, 40)
        line.step()
        if large.number in line.ended:
            return
    raise AssertionError("starved")


def test_retry_after_is_measured() -> None:
    rates = Rates()
    assert rates.retry_after(1, 0) == 1.0
    for _ in range(20):
        rates.forward(100, 0.5)
        rates.ended()
    assert rates.retry_after(1, 0) == pytest.approx(0.5)
    assert rates.retry_after(0, 2000) == pytest.approx(10.0)
    assert rates.retry_after(1, 10**9) == 60.0


def test_announced_pauses_keep_nine_tenths_of_the_hits_in_half_the_memory() -> None:
    """``python -m tests.measure.prefixes``, with another seed."""
    result = measure(300, 12, seed=2)
    assert result.announced_of_unlimited >= 0.9, result
    assert result.announced_of_unlimited > result.lru_of_unlimited, result
