"""Choosing a token depends on logits, rule and position, and on nothing else."""

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.generation import ThinkingLimit
from services.inference.sampling import SamplingRule, choose, uniform


def logits(seed: int = 0, size: int = 50) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def test_temperature_zero_takes_the_lowest_of_equal_largest() -> None:
    row = np.array([1.0, 3.0, 3.0, 2.0], dtype=np.float32)
    assert choose(row, SamplingRule(0.0, 1.0, 1), []) == 1


def test_a_draw_depends_on_seed_and_position_only() -> None:
    rule = SamplingRule(1.0, 1.0, 42)
    assert choose(logits(), rule, [1, 2, 3]) == choose(logits(), rule, [9, 9, 9])
    drawn = {choose(logits(), SamplingRule(1.0, 1.0, seed), []) for seed in range(50)}
    assert len(drawn) > 5
    assert len({uniform(1, position) for position in range(1000)}) == 1000
    assert 0 <= uniform(-3, 2) < 1
    assert 0 <= uniform(2**70, 2) < 1


def test_draws_follow_the_probabilities() -> None:
    row = np.log(np.array([0.5, 0.3, 0.2], dtype=np.float32))
    rule = SamplingRule(1.0, 1.0, 3)
    counts = np.bincount([choose(row, rule, [0] * position) for position in range(4000)], minlength=3) / 4000
    assert counts == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    row = np.log(np.array([0.1, 0.6, 0.3], dtype=np.float32))
    assert {choose(row, SamplingRule(1.0, 0.6, seed), []) for seed in range(60)} == {1}
    assert {choose(row, SamplingRule(1.0, 0.61, seed), []) for seed in range(60)} == {1, 2}


def test_forbidden_ids_are_never_chosen() -> None:
    row = logits()
    best = int(row.argmax())
    forbidden = np.array([best, 3])
    assert choose(row, SamplingRule(0.0, 1.0, 1, forbidden), []) != best
    drawn = {choose(row, SamplingRule(5.0, 1.0, seed, forbidden), []) for seed in range(300)}
    assert not drawn & {best, 3}


def test_thinking_ends_at_its_budget() -> None:
    rule = SamplingRule(0.0, 1.0, 1, thinking=ThinkingLimit(budget_tokens=2, end_id=49))
    best = choose(logits(), SamplingRule(0.0, 1.0, 1), [])
    assert choose(logits(), rule, [0]) == best
    assert choose(logits(), rule, [0, 0]) == 49
    assert choose(logits(), rule, [0, 49]) == best
    assert choose(logits(), rule, [0, 0, 49]) == best


def test_a_tiny_temperature_does_not_overflow() -> None:
    assert choose(logits(), SamplingRule(1e-6, 0.95, 1), []) == int(logits().argmax())
