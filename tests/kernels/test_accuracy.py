"""Every implementation against float64, and against the reference."""

import pytest
import torch
from torch import Tensor

from kernels.dispatch import Operations, load
from kernels.reference.elementary import exp, fold, sigmoid
from kernels.reference.int4 import dequantize_int4_ref
from kernels.weights import Int4, Matrix
from tests.kernels.work import FORMATS, ROWS, WORKS, Work, matrix

SEED = 3
COLUMNS = (1, 31, 32, 33, 64, 96, 320)
formats = pytest.mark.parametrize("kind", FORMATS)


def exact(weight: Matrix) -> Tensor:
    if isinstance(weight, Int4):
        weight = dequantize_int4_ref(weight.packed, weight.scale, weight.columns, torch.float32)
    return weight.double()


@formats
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=("bf16", "f32"))
def test_linear_is_a_product(ops: Operations, kind: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(SEED)
    for columns in COLUMNS:
        for outputs in (1, 15, 64, 65, 130):
            weight = matrix(kind, outputs, columns, generator)
            x = torch.randn(7, columns, generator=generator).to(dtype)
            got = ops.linear(x, ops.prepare_linear(weight), torch.float32).double()
            size = x.double().abs() @ exact(weight).abs().T  # of all terms: what rounding is relative to
            assert ((got - x.double() @ exact(weight).T).abs() <= 3e-6 * size).all()


@formats
def test_experts_are_gated_products(ops: Operations, kind: str) -> None:
    generator = torch.Generator().manual_seed(SEED)
    shapes = (72, 96), (72, 96), (96, 72)
    gate, up, down = ([matrix(kind, *shape, generator) for _ in range(4)] for shape in shapes)
    x = torch.randn(9, 96, generator=generator)
    chosen = torch.randint(0, 3, (9, 2), generator=generator)
    got = ops.experts(x, chosen, ops.prepare_experts(gate, up, down))
    for token in range(9):
        for slot, expert in enumerate(chosen[token].tolist()):
            wide = x[token].double()
            inner = torch.nn.functional.silu(exact(gate[expert]) @ wide) * (exact(up[expert]) @ wide)
            torch.testing.assert_close(got[token, slot].double(), exact(down[expert]) @ inner, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_implementations_agree(ops: Operations, work: Work) -> None:
    """In bfloat16 a value between two operations may fall on the other side of a rounding: 2^-8 of its size."""
    rows = torch.arange(ROWS)
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.bfloat16, 2e-2)):
        truth = work.prepare(load("reference"), dtype)(rows).float()
        torch.testing.assert_close(
            work.prepare(ops, dtype)(rows).float(), truth, rtol=tolerance, atol=tolerance * float(truth.abs().max())
        )


@pytest.mark.parametrize("page", [7, 16, 64, 200])
def test_attention_is_a_softmax_over_the_past(ops: Operations, page: int) -> None:
    generator = torch.Generator().manual_seed(page)
    heads, rank, width, length = 3, 20, 28, 190
    pages = -(-length // page)
    keys = torch.randn(pages * page, width, generator=generator)
    order = torch.randperm(pages, generator=generator)
    pool = torch.empty(pages, page, width)
    pool[order] = keys.view(pages, page, width)
    positions = torch.arange(0, length, 3)
    query = 3 * torch.randn(len(positions), heads, width, generator=generator)
    sequences = torch.zeros_like(positions)
    got = ops.latent_attention(query, pool, order.int().unsqueeze(0), sequences, positions, 0.3, rank)
    for row, position in enumerate(positions.tolist()):
        seen = keys[: position + 1].double()
        weights = (query[row].double() @ seen.T * 0.3).softmax(-1)
        torch.testing.assert_close(got[row].double(), weights @ seen[:, :rank], rtol=1e-5, atol=1e-5)


def test_norm_and_rotation_are_what_they_say(ops: Operations) -> None:
    generator = torch.Generator().manual_seed(SEED)
    x, weight = torch.randn(5, 100, generator=generator), torch.rand(100, generator=generator)
    wide = x.double()
    truth = weight.double() * wide / (wide.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(ops.rms_norm(x, weight, 1e-5).double(), truth, rtol=1e-6, atol=1e-6)
    angles = torch.rand(5, 50, generator=generator)
    turned = torch.view_as_complex(x.view(5, 50, 2)) * torch.polar(torch.ones(5, 50), angles)
    got = ops.rotate(x, angles.cos(), angles.sin())
    torch.testing.assert_close(got, torch.view_as_real(turned).flatten(1), rtol=1e-6, atol=1e-6)


def test_elementary_functions_are_close_everywhere() -> None:
    x = torch.linspace(-86.9, 87.9, 100_001)
    assert ((exp(x).double() - x.double().exp()) / x.double().exp()).abs().max() < 2.0**-22
    assert exp(torch.tensor([0.0, -torch.inf, torch.inf])).tolist() == [1.0, 0.0, torch.inf]
    assert exp(torch.tensor([torch.nan])).isnan().all()
    torch.testing.assert_close(sigmoid(x), x.double().sigmoid().float(), rtol=1e-6, atol=1e-37)
    for size in (0, 1, 2, 3, 7, 100):
        torch.testing.assert_close(
            fold(torch.arange(float(size)).expand(2, size)), torch.full((2,), size * (size - 1) / 2)
        )
