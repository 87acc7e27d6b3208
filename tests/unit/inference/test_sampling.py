"""Choosing a token depends on logits, rule and position, and on nothing else; cuts are exact."""

import numpy as np
import pytest

import kernels
from kernels.draws import Row
from schemas.shards import Draw, SamplingRule, SequenceOpened, TokenDrawn
from services.inference.admission import encode_ids
from services.inference.sampling import Numbers, Sampler, uniform
from shared.errors import BadInput


def logits(seed: int = 0, size: int = 50) -> Row:
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def bit_set(ids: list[int], size: int) -> bytes:
    return np.packbits(np.isin(np.arange(size), ids), bitorder="little").tobytes()


def drawn_by(sampler: Sampler, row: Row, draw: Draw) -> TokenDrawn:
    (drawn,) = kernels.draw([sampler.row(row, draw)])
    return sampler.token(drawn, draw)


def draw(
    row: Row, position: int = 0, emitted: list[int] | None = None, prompt: list[int] | None = None, **rule: object
) -> int:
    opened = SequenceOpened(
        sequence=1,
        rule=SamplingRule(**({"temperature": 1.0} | rule)),  # type: ignore[arg-type]
        context=encode_ids(prompt or []),
        emitted=encode_ids(emitted or []),
    )
    return drawn_by(Sampler(opened, len(row)), row, Draw(position=position)).token


def test_temperature_zero_takes_the_lowest_of_equal_largest() -> None:
    row = np.array([1.0, 3.0, 3.0, 2.0], dtype=np.float32)
    assert draw(row, temperature=0.0) == 1
    assert draw(row, temperature=1e-9) == 1


def test_a_draw_depends_on_seed_and_position_only() -> None:
    assert draw(logits(), 3, emitted=[1, 2, 3], seed=42) == draw(logits(), 3, emitted=[9, 9, 9], seed=42)
    assert len({draw(logits(), seed=seed) for seed in range(50)}) > 5
    assert len({uniform(1, position) for position in range(1000)}) == 1000
    assert 0 <= uniform(-3, 2) < 1
    assert 0 <= uniform(2**70, 2) < 1


@pytest.mark.parametrize("seed", [0, -3, 2**63 + 5])
def test_numbers_in_a_row_are_those_of_their_positions(seed: int) -> None:
    numbers = Numbers(seed)
    for position in (*range(300), 7, 7, 8, 2**40, 2**40 + 1, 0):
        assert numbers.at(position) == uniform(seed, position)


def test_draws_follow_the_probabilities() -> None:
    row = np.log(np.array([0.5, 0.3, 0.2], dtype=np.float32))
    counts = np.bincount([draw(row, position, seed=3) for position in range(4000)], minlength=3) / 4000
    assert counts == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    row = np.log(np.array([0.1, 0.6, 0.3], dtype=np.float32))
    assert {draw(row, seed=seed, top_p=0.6) for seed in range(60)} == {1}
    assert {draw(row, seed=seed, top_p=0.61) for seed in range(60)} == {1, 2}


def test_forbidden_and_masked_ids_are_never_chosen() -> None:
    row = logits()
    best = int(row.argmax())
    forbidden = bit_set([best, 3], 50)
    assert draw(row, temperature=0.0, forbidden=forbidden) != best
    assert not {draw(row, seed=seed, temperature=5.0, forbidden=forbidden) for seed in range(200)} & {best, 3}
    sampler = Sampler(SequenceOpened(sequence=1, rule=SamplingRule(temperature=2.0)), 50)
    assert {drawn_by(sampler, row, Draw(position=n, mask=bit_set([4, 7], 50))).token for n in range(60)} == {4, 7}
    with pytest.raises(BadInput) as refused:
        drawn_by(sampler, row, Draw(position=0, mask=bit_set([], 50)))
    assert refused.value.param == "grammar"


def test_penalties_and_bias_follow_their_definitions() -> None:
    row = np.array([2.0, 1.9, -1.0, 0.0], dtype=np.float32)
    assert draw(row, temperature=0.0, emitted=[0], presence_penalty=0.2) == 1
    assert draw(row, temperature=0.0, emitted=[0, 1, 1], presence_penalty=0.2) == 0
    assert draw(row, temperature=0.0, emitted=[0, 1, 1], frequency_penalty=0.2) == 0
    assert draw(row, temperature=0.0, emitted=[0, 0, 1], frequency_penalty=0.2) == 1
    assert draw(row, temperature=0.0, prompt=[0, 1], presence_penalty=2.0) == 0, "prompts are not counted"
    assert draw(row, temperature=0.0, prompt=[0], repetition_penalty=1.5) == 1
    assert draw(np.array([-1.0, -1.2], dtype=np.float32), temperature=0.0, prompt=[0], repetition_penalty=1.5) == 1
    assert draw(row, temperature=0.0, logit_bias=((3, 2.5),)) == 3


def test_kept_tokens_count_and_drawing_alone_changes_nothing() -> None:
    row = np.array([2.0, 1.9], dtype=np.float32)
    sampler = Sampler(SequenceOpened(sequence=1, rule=SamplingRule(presence_penalty=0.2)), 2)
    assert [drawn_by(sampler, row, Draw(position=0)).token for _ in range(3)] == [0, 0, 0]
    sampler.keep(0)
    assert drawn_by(sampler, row, Draw(position=1)).token == 1


def test_logprobs_are_those_of_the_models_own_logits() -> None:
    row = logits()
    expected = row.astype(np.float64) - np.log(np.exp(row.astype(np.float64)).sum())
    opened = SequenceOpened(sequence=1, rule=SamplingRule(temperature=0.0, top_logprobs=3, logit_bias=((5, 50.0),)))
    drawn = drawn_by(Sampler(opened, 50), row, Draw(position=0))
    assert drawn.token == 5
    assert drawn.logprobs is not None
    assert drawn.logprobs.chosen == pytest.approx(expected[5], abs=1e-5)
    assert drawn.logprobs.top_ids == tuple(np.argsort(-row)[:3])
    assert drawn.logprobs.top == pytest.approx(expected[list(drawn.logprobs.top_ids)], abs=1e-5)
    assert drawn_by(Sampler(opened, 50), row, Draw(position=0, forced=9)).token == 9
