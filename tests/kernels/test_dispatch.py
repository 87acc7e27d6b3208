"""Which implementation is chosen, and what each refuses."""

from collections.abc import Callable

import pytest
import torch

import kernels
from kernels import dispatch
from kernels.dispatch import Operations, implementations, load
from kernels.weights import Int4
from tests.kernels.work import matrix

GENERATOR = torch.Generator().manual_seed(0)
PLAIN = matrix("bf16", 8, 32, GENERATOR)


def test_the_last_implementation_is_the_default() -> None:
    assert implementations()[0] == "reference"
    assert kernels.implementation() == implementations()[-1] == load().name
    assert [load(name).name for name in implementations()] == list(implementations())


def test_without_a_library_plain_torch_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "instruction_sets", lambda: ())
    monkeypatch.setattr(dispatch, "library", lambda: None)
    assert load.__wrapped__().name == "reference"


def test_an_unknown_implementation_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="cpu-z80"):
        load("cpu-z80")


def test_threads_can_be_set(ops: Operations) -> None:
    if ops.name == "reference":
        pytest.skip("the reference leaves threads to torch")
    for count in (1, 2, 1):
        ops.set_threads(count)
        assert ops.threads() == count


def test_weights_keep_the_bytes_of_their_format() -> None:
    ops = load()
    for kind, size in (("f32", 4.0), ("int4", 0.5 + 2 / 32)):
        assert ops.prepare_linear(matrix(kind, 128, 256, GENERATOR)).nbytes == 128 * 256 * size
    assert 1.5 <= ops.prepare_linear(matrix("bf16", 128, 256, GENERATOR)).nbytes / (128 * 256) <= 2.0


@pytest.mark.parametrize(
    "call",
    [
        lambda ops: ops.linear(torch.zeros(2, 33), ops.prepare_linear(PLAIN)),
        lambda ops: ops.linear(torch.zeros(2, 32, dtype=torch.float64), ops.prepare_linear(PLAIN)),
        lambda ops: ops.experts(torch.zeros(2, 32), torch.zeros(3, 1).long(), _experts(ops)),
        lambda ops: ops.experts(torch.zeros(2, 32), torch.zeros(2, 1).int(), _experts(ops)),
        lambda ops: ops.rms_norm(torch.zeros(2, 8), torch.ones(9), 1e-6),
        lambda ops: ops.rotate(torch.zeros(2, 8), torch.ones(2, 3), torch.ones(2, 3)),
        lambda ops: ops.weighted_sum(torch.zeros(2, 3, 8), torch.ones(2, 4)),
        lambda ops: _attend(ops, pool=torch.zeros(2, 4, 10)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call: Callable[[Operations], object]) -> None:
    if load().name == "reference":
        pytest.skip("torch itself says what does not fit")
    with pytest.raises(ValueError, match="expected"):
        call(load())


@pytest.mark.parametrize("chosen", [-1, 2, 1 << 40])
def test_an_expert_that_is_not_there_is_refused(chosen: int) -> None:
    ops = load()
    with pytest.raises(IndexError):
        ops.experts(torch.zeros(1, 32), torch.tensor([[chosen]]), _experts(ops))


@pytest.mark.parametrize(
    "wrong", [{"tables": [[0, 2]]}, {"tables": [[-1, 0]]}, {"sequence": 1}, {"position": 8}, {"position": -1}]
)
def test_a_page_that_is_not_there_is_refused(wrong: dict) -> None:
    if load().name == "reference":
        pytest.skip("torch itself says what is out of range")
    with pytest.raises(IndexError):
        _attend(load(), **wrong)


def test_matrices_must_be_alike() -> None:
    with pytest.raises(ValueError, match="one kind"):
        load().prepare_experts([PLAIN], [matrix("f32", 8, 32, GENERATOR)], [PLAIN])
    with pytest.raises(ValueError, match="expected"):
        Int4(torch.zeros(8, 4, dtype=torch.int32), torch.zeros(8, 2, dtype=torch.bfloat16), 32)


def test_weights_of_another_implementation_are_refused() -> None:
    if load().name == "reference":
        pytest.skip("there is only one")
    with pytest.raises(ValueError, match="another implementation"):
        load().linear(torch.zeros(1, 32), load("reference").prepare_linear(PLAIN))
    with pytest.raises(ValueError, match="another implementation"):
        load("reference").linear(torch.zeros(1, 32), load().prepare_linear(PLAIN))


def _experts(ops: Operations) -> kernels.dispatch.ExpertWeights:
    down = matrix("bf16", 32, 8, GENERATOR)
    return ops.prepare_experts([PLAIN, PLAIN], [PLAIN, PLAIN], [down, down])


def _attend(
    ops: Operations,
    tables: list[list[int]] | None = None,
    sequence: int = 0,
    position: int = 7,
    pool: torch.Tensor | None = None,
) -> torch.Tensor:
    pages = torch.tensor(tables or [[1, 0]], dtype=torch.int32)
    rows = torch.tensor([sequence]), torch.tensor([position])
    return ops.latent_attention(
        torch.zeros(1, 2, 8), torch.zeros(2, 4, 8) if pool is None else pool, pages, *rows, 1.0, 4
    )
