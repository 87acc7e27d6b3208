"""INT4 in the released layout: exact both ways, for every column count."""

import pytest
import torch

from kernels.formats import int4_shapes
from kernels.reference.int4 import (
    dequantize_int4_ref,
    linear_int4_ref,
    pack_int4_ref,
    quantize_int4_ref,
    unpack_int4_ref,
)


@pytest.mark.parametrize("columns", [1, 7, 8, 9, 31, 32, 33, 63, 64, 100])
def test_every_value_survives_packing(columns: int) -> None:
    generator = torch.Generator().manual_seed(columns)
    values = torch.randint(-8, 8, (5, columns), generator=generator, dtype=torch.int8)
    packed = pack_int4_ref(values)
    assert packed.dtype == torch.int32
    assert packed.shape == int4_shapes(5, columns).packed
    assert torch.equal(unpack_int4_ref(packed, columns), values)


def test_nibbles_lie_least_significant_first_with_offset_eight() -> None:
    word = pack_int4_ref(torch.tensor([[-8, -7, 0, 7, -8, -8, -8, 7]]))
    assert word.item() & 0xFFFFFFFF == 0xF000F810


@pytest.mark.parametrize("columns", [8, 32, 45, 96])
def test_what_lies_on_the_grid_is_quantised_without_error(columns: int) -> None:
    weight = torch.randn(6, columns, generator=torch.Generator().manual_seed(1))
    values, scale = quantize_int4_ref(weight)
    assert scale.shape == int4_shapes(6, columns).scale
    grid = dequantize_int4_ref(pack_int4_ref(values), scale, columns, torch.float32)
    assert (grid - weight).abs().max() <= 0.51 * scale.float().max()
    again = dequantize_int4_ref(pack_int4_ref(values), scale, columns, torch.float32)
    assert torch.equal(grid, again)


def test_linear_is_the_product_with_the_dequantised_weight() -> None:
    generator = torch.Generator().manual_seed(2)
    values, scale = quantize_int4_ref(torch.randn(16, 40, generator=generator))
    packed = pack_int4_ref(values)
    x = torch.randn(3, 40, generator=generator)
    expected = x @ dequantize_int4_ref(packed, scale, 40, torch.float32).T
    assert torch.equal(linear_int4_ref(x, packed, scale), expected)


def test_a_group_of_zeros_stays_zero() -> None:
    values, scale = quantize_int4_ref(torch.zeros(2, 64))
    assert torch.equal(dequantize_int4_ref(pack_int4_ref(values), scale, 64, torch.float32), torch.zeros(2, 64))
