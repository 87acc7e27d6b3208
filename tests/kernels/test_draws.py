"""Drawing follows its definition over a full sort: the reference exactly, compiled ones up to the rounding of e^x; a
row's token depends on that row only."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels.dispatch import Operations
from kernels.draws import DEAD_END, Changes, DrawnRow, DrawRow, Ids, Row
from kernels.reference.draws import Desk, changed, draw, ranked

SLACK = 1e-5
"""Rounding of weights and sums, as a share of the whole."""


def row_of(scores: Row, number: float = 0.5, **changes: object) -> DrawRow:
    values: dict[str, object] = {
        "logits": scores,
        "changes": Changes(),
        "number": number,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "forced": None,
        "top_logprobs": None,
    }
    return DrawRow(**(values | changes))  # type: ignore[arg-type]


def likeliest(scores: Row) -> list[int]:
    return np.argsort(-scores, kind="stable").tolist()


def place(row: DrawRow, number: float, top_p: float, min_p: float) -> int:
    """The definition, over a full sort: which of the tokens in order."""
    weights = np.exp((row.logits - row.logits.max()) / np.float32(row.temperature))
    order = np.array(likeliest(row.logits))[: row.top_k or len(row.logits)]
    reached = np.cumsum(weights[order], dtype=np.float64)
    total = reached[-1] if row.top_k else float(weights.sum(dtype=np.float64))
    kept = max(int(np.count_nonzero(weights[order])), 1)
    if top_p < 1:
        kept = min(kept, int(np.searchsorted(reached, top_p * total)) + 1)
    if min_p:
        kept = min(kept, int(np.count_nonzero(weights[order] >= np.float32(min_p))))
    mass = reached[kept - 1] if top_p < 1 or min_p else total
    return min(int(np.searchsorted(reached[:kept], number * mass, side="right")), kept - 1)


def scores_of(seed: int, size: int, spread: float) -> Row:
    return (np.random.default_rng(seed).normal(size=size).round(2) * spread).astype(np.float32)  # with many ties


cases = given(
    seed=st.integers(0, 2**20),
    size=st.sampled_from([1, 3, 300, 5000]),
    spread=st.sampled_from([0.0, 0.3, 5.0]),
    temperature=st.sampled_from([0.2, 1.0, 3.0]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.01]),
    top_k=st.sampled_from([0, 0, 1, 40, 3000]),
    min_p=st.sampled_from([0.0, 0.0, 0.05, 0.9]),
    number=st.floats(0, 1, exclude_max=True),
)


@settings(max_examples=150, deadline=None)
@cases
def test_the_reference_cuts_as_a_full_sort_does(
    seed: int, size: int, spread: float, temperature: float, top_p: float, top_k: int, min_p: float, number: float
) -> None:
    scores = scores_of(seed, size, spread)
    row = row_of(scores, number, temperature=temperature, top_p=top_p, top_k=min(top_k, size), min_p=min_p)
    assert draw(row, Desk(size)).token == likeliest(scores)[place(row, number, top_p, min_p)]
    count = min(17, size)
    assert ranked(scores, count).tolist() == likeliest(scores)[:count]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@cases
def test_every_implementation_draws_by_the_definition(
    ops: Operations,
    seed: int,
    size: int,
    spread: float,
    temperature: float,
    top_p: float,
    top_k: int,
    min_p: float,
    number: float,
) -> None:
    scores = scores_of(seed, size, spread)
    row = row_of(
        scores, number, temperature=temperature, top_p=top_p, top_k=min(top_k, size), min_p=min_p, top_logprobs=3
    )
    (drawn,) = ops.draw([row])
    near = [
        place(row, max(number + moved, 0.0), top_p + (top_p < 1) * cut, min_p * (1 + least))
        for moved, cut, least in product((-SLACK, 0.0, SLACK), repeat=3)
    ]
    assert min(near) <= likeliest(scores).index(drawn.token) <= max(near)
    check_logprobs(scores, drawn, min(3, size))


def check_logprobs(logits: Row, drawn: DrawnRow, top: int) -> None:
    wide = logits.astype(np.float64)
    expected = wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())
    assert drawn.logprob == pytest.approx(expected[drawn.token], abs=1e-5)
    assert list(drawn.top_ids) == likeliest(logits)[:top]
    assert drawn.top == pytest.approx(expected[list(drawn.top_ids)], abs=1e-5)


def rows() -> list[DrawRow]:
    generator = np.random.default_rng(5)
    return [
        row_of(
            scores_of(number, 4099, (0.3, 4.0)[number % 2]),
            float(generator.random()),
            temperature=(0.0, 0.6, 1.0)[number % 3],
            top_p=(1.0, 0.9)[number % 2],
            top_k=(0, 0, 50)[number % 3],
            min_p=(0.0, 0.02)[number % 2],
            top_logprobs=(None, 0, 5, 20)[number % 4],
            forced=7 if number == 11 else None,
        )
        for number in range(24)
    ]


def test_a_row_draws_the_same_alone_and_among_others(ops: Operations) -> None:
    ops.set_threads(1)
    alone = [ops.draw([row])[0] for row in rows()]
    assert alone[11].token == 7
    for threads in (1, 2):
        ops.set_threads(threads)
        assert ops.draw(rows()) == alone
        assert ops.draw(rows()[::-1]) == alone[::-1]


def test_what_is_not_a_number_harms_nobody_else(ops: Operations) -> None:
    healthy = rows()[1]
    sick = row_of(np.full(4099, np.nan, dtype=np.float32), top_logprobs=5)
    if ops.name == "reference":
        pytest.skip("numpy refuses such a row")
    drawn = ops.draw([healthy, sick])
    assert drawn[0] == ops.draw([healthy])[0]
    assert drawn[1].token == DEAD_END


def test_zero_temperature_takes_the_lowest_of_equal_largest(ops: Operations) -> None:
    scores = np.array([1.0, 3.0, 3.0, 2.0], dtype=np.float32)
    assert ops.draw([row_of(scores, temperature=0.0)])[0].token == 1


def test_a_row_of_another_form_is_refused(ops: Operations) -> None:
    if ops.name == "reference":
        pytest.skip("numpy says so itself")
    with pytest.raises(ValueError, match="float32"):
        ops.draw([row_of(np.zeros(8, dtype=np.float64))])  # type: ignore[arg-type]
    zeros, beyond = np.zeros(8, dtype=np.float32), np.array([8], dtype=np.int32)
    for row in (row_of(zeros, forced=8), row_of(zeros, changes=Changes(seen=beyond))):
        with pytest.raises(IndexError):
            ops.draw([row])


def changes_of(seed: int, size: int) -> Changes:
    generator = np.random.default_rng(seed)

    def ids(count: int) -> Ids:
        return generator.permutation(size)[:count].astype(np.int32)

    counted, biased = ids(20), np.append(ids(9), np.int32(3)).astype(np.int32)
    return Changes(
        repetition=1.3,
        seen=ids(40),
        presence=0.4,
        frequency=0.2,
        counted=counted,
        counts=generator.integers(1, 5, len(counted)).astype(np.float32),
        biased=biased,
        biases=generator.normal(size=len(biased)).astype(np.float32),
        forbidden=ids(30),
        mask=generator.integers(0, 256, size // 8, dtype=np.uint8).tobytes() if seed % 2 else b"",
    )


@pytest.mark.parametrize("seed", range(8))
def test_every_implementation_changes_logits_as_the_reference_does(ops: Operations, seed: int) -> None:
    """Read off the likeliest token while the likeliest ones are forbidden, one after another."""
    size = 213
    logits, changes = scores_of(seed, size, 3.0), changes_of(seed, size)
    expected = likeliest(changed(logits, changes))
    for place in range(40):
        hidden = np.concatenate((changes.forbidden, np.array(expected[:place], dtype=np.int32)))
        row = row_of(logits, temperature=0.0, changes=replace(changes, forbidden=hidden), top_logprobs=0)
        (drawn,) = ops.draw([row])
        assert drawn.token == expected[place]
        wide = logits.astype(np.float64)
        assert drawn.logprob == pytest.approx(wide[drawn.token] - np.log(np.exp(wide).sum()), abs=1e-5)


def test_a_row_that_allows_nothing_is_a_dead_end(ops: Operations) -> None:
    scores = np.zeros(11, dtype=np.float32)
    assert ops.draw([row_of(scores, changes=Changes(mask=b"\0\0"), top_logprobs=2)]) == [DrawnRow(DEAD_END)]
    assert ops.draw([row_of(scores, changes=Changes(mask=b"\0"))]) == [DrawnRow(DEAD_END)]
    assert ops.draw([row_of(scores, changes=Changes(mask=b"\0\4"))]) == [DrawnRow(10)]
