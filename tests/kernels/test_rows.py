"""The promise: a row's bits depend on the row and its own context, not on batch, order or threads."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from kernels.dispatch import Operations, load
from tests.kernels.planted import BatchDependent
from tests.kernels.work import ROWS, WORKS, Run, Work

DTYPES = (torch.bfloat16, torch.float32)
works = pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=("bf16", "f32"))


def bits(values: Tensor) -> Tensor:
    return values.contiguous().view(torch.int16 if values.element_size() == 2 else torch.int32)


def batches(seed: int, count: int) -> list[Tensor]:
    """Rows alone, all of them, and random ones of random number, repeated and in random order."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [*range(2, 14), *torch.randint(14, ROWS + 1, (count,), generator=generator).tolist()]
    return [torch.tensor([row]) for row in (0, 1, 31, 63)] + [
        torch.randint(0, ROWS, (size,), generator=generator) for size in sizes
    ]


def check_rows(ops: Operations, run: Run, seed: int = 0, count: int = 3) -> None:
    ops.set_threads(1)
    alone = torch.cat([run(torch.tensor([row])) for row in range(ROWS)])
    assert alone.isfinite().all()
    for rows in batches(seed, count):
        for threads in (1, 2):
            ops.set_threads(threads)
            assert torch.equal(bits(run(rows)), bits(alone[rows])), f"{len(rows)} rows, {threads} threads"


@works
@dtypes
def test_a_row_is_the_same_in_every_batch(ops: Operations, work: Work, dtype: torch.dtype) -> None:
    check_rows(ops, work.prepare(ops, dtype))


def test_a_batch_dependent_kernel_is_found() -> None:
    planted = BatchDependent()
    with pytest.raises(AssertionError, match="rows"):
        check_rows(planted, WORKS[0].prepare(planted, torch.bfloat16))


@pytest.mark.parametrize("work", [work for work in WORKS if work.name != "attention"], ids=lambda work: work.name)
def test_what_is_not_a_number_stays_in_its_row(ops: Operations, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = work.prepare(ops, torch.float32)(torch.arange(ROWS))
    drawn = torch.randn

    def poisoned(*shape: int, generator: torch.Generator) -> Tensor:
        values = drawn(*shape, generator=generator)
        if shape[0] == ROWS:
            values[5] = torch.nan
        return values

    monkeypatch.setattr(torch, "randn", poisoned)
    others = torch.arange(ROWS) != 5
    result = work.prepare(ops, torch.float32)(torch.arange(ROWS))
    assert result[5].isnan().all()
    assert torch.equal(result[others], healthy[others])


def test_no_rows_give_no_rows(ops: Operations) -> None:
    for work in WORKS:
        assert len(work.prepare(ops, torch.bfloat16)(torch.empty(0, dtype=torch.int64))) == 0


def test_callers_in_several_threads_do_not_disturb_each_other() -> None:
    ops = load()
    ops.set_threads(2)
    runs = [work.prepare(ops, torch.bfloat16) for work in WORKS]
    rows = torch.arange(ROWS)
    expected = [run(rows) for run in runs]

    def repeat(index: int) -> bool:
        return all(torch.equal(runs[index](rows), expected[index]) for _ in range(20))

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(repeat, list(range(len(runs))) * 2))
    ops.set_threads(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    ops = load()
    ops.set_threads(2)
    run = WORKS[0].prepare(ops, torch.bfloat16)
    expected = run(torch.arange(ROWS))
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(run(torch.arange(ROWS)), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    ops.set_threads(1)
