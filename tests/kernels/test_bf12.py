"""bf12 is bfloat16 without loss: the same words back, the same bits of every product."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernels.cpu import operations, panels
from kernels.cpu.panels import Panels
from kernels.dispatch import implementations, load
from kernels.formats import bf12_bytes
from kernels.reference.bf12 import pack_bf12_ref, unpack_bf12_ref

ROWS = (1, 2, 3, 4, 5, 6, 7, 16, 97)
reads_bf12 = pytest.mark.skipif(
    operations.READS_BF12[0] not in implementations(),
    reason="bf12 is read by AVX512-BF16 with VBMI2 alone: this processor has not both, or no compiler was there",
)


def words(seed: int, shape: tuple[int, ...], odd: float) -> Tensor:
    """Weights as trained ones lie, of which a share is any bits at all: infinite, not a number, subnormal, zero."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(shape, generator=generator).bfloat16()
    any_bits = torch.randint(-(2**15), 2**15, shape, generator=generator).to(torch.int16).view(torch.bfloat16)
    return torch.where(torch.rand(shape, generator=generator) < odd, any_bits, weights)


def bits(values: Tensor) -> Tensor:
    return values.contiguous().view(torch.int16)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), pairs=st.integers(1, 48), odd=st.sampled_from((0.0, 0.001, 0.1, 1.0)))
def test_every_word_survives(seed: int, pairs: int, odd: float) -> None:
    block = words(seed, (pairs, 4, 32), odd)
    values, spare = pack_bf12_ref(block, first=7)
    assert len(values) == bf12_bytes(64, 2 * pairs)
    assert torch.equal(bits(unpack_bf12_ref(values, spare)), bits(block))


def packed(matrices: list[Tensor], name: str = operations.READS_BF12[0]) -> Panels:
    """As the heads of that implementation are held."""
    held = load(name).prepare_heads(torch.stack(matrices)).matrices
    assert isinstance(held, Panels)
    return held


def held_bytes(panels: Panels) -> Tensor:
    assert panels.scales is not None
    return torch.cat((panels.values.flatten(), panels.scales))


@reads_bf12
@pytest.mark.parametrize("odd", [0.0, 0.001])
@pytest.mark.parametrize("shape", [(64, 32), (130, 96), (1, 45)])
def test_panels_are_packed_as_the_reference_packs_them(shape: tuple[int, int], odd: float) -> None:
    matrices = [words(index, shape, odd) for index in range(3)]
    plain, compact = packed(matrices, "cpu-generic"), packed(matrices)
    assert (plain.format, compact.format) == ("bf16", "bf12")
    assert compact.nbytes < 0.8 * plain.nbytes
    blocks: list[Tensor] = []
    spares: list[Tensor] = []
    for block in plain.values.view(-1, plain.padded // 2, 4, 32):
        values, spare = pack_bf12_ref(block, sum(len(before) for before in spares))
        blocks.append(values)
        spares.append(spare)
    expected = torch.cat((*blocks, *spares))
    assert torch.equal(held_bytes(compact)[: len(expected)], expected)


@reads_bf12
@pytest.mark.parametrize(("matrix", "kind"), [(words(0, (64, 32), odd=0.5), "bf16"), (torch.ones(64, 32), "f32")])
def test_what_has_too_few_codes_stays_as_it_is(matrix: Tensor, kind: str) -> None:
    compact, plain = packed([matrix]), packed([matrix], "cpu-generic")
    assert compact.format == plain.format == kind
    assert torch.equal(bits(compact.values), bits(plain.values))


@reads_bf12
def test_a_matrix_in_several_goes_is_packed_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, up, down = words(1, (150, 96), 0.001), words(2, (150, 96), 0.001), words(3, (96, 150), 0.001)
    ops = load(operations.READS_BF12[0])
    whole = ops.prepare_experts([gate], [up], [down])
    monkeypatch.setattr(panels, "COMPACTED_WEIGHTS", 64 * 96)
    parts = ops.prepare_experts([gate], [up], [down])
    for one, other in ((whole.gate_up, parts.gate_up), (whole.down, parts.down)):
        assert isinstance(one, Panels)
        assert isinstance(other, Panels)
        assert one.format == other.format == "bf12"
        assert torch.equal(held_bytes(one), held_bytes(other))


@reads_bf12
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=("bf16", "f32"))
@pytest.mark.parametrize("shape", [(64, 32), (70, 96), (1, 45), (1000, 256)])
def test_products_have_the_bits_of_plain_weights(
    shape: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    ops = load(operations.READS_BF12[0])
    weight = words(3, shape, odd=0.001).nan_to_num(1.0, 1.0, -1.0)
    compact = ops.prepare_linear(weight)
    monkeypatch.setattr(operations, "READS_BF12", ())
    plain = ops.prepare_linear(weight)
    assert (compact.matrices.format, plain.matrices.format) == ("bf12", "bf16")
    for rows in ROWS:
        x = torch.randn(rows, shape[1], generator=torch.Generator().manual_seed(rows)).to(dtype)
        both = [ops.linear(x, each, torch.float32).view(torch.int32) for each in (compact, plain)]
        assert torch.equal(*both), f"{rows} rows"


@reads_bf12
def test_a_product_with_one_is_the_weight_itself() -> None:
    """Every bit, of subnormal numbers too: float32 does not flush them."""
    ops = load(operations.READS_BF12[0])
    weight = words(5, (200, 64), odd=0.001)
    weight = torch.where(weight.isfinite(), weight, 1.0)
    found = ops.linear(torch.eye(64), ops.prepare_linear(weight), torch.float32)
    assert torch.equal(found, weight.float().T)


@reads_bf12
def test_blocks_and_heads_that_every_row_takes_are_packed_and_experts_are_not() -> None:
    ops = load(operations.READS_BF12[0])
    matrices = [words(index, (64, 64), odd=0.0) for index in range(2)]
    alone = ops.prepare_experts(matrices[:1], matrices[:1], matrices[:1])
    many = ops.prepare_experts(matrices, matrices, matrices)
    heads = ops.prepare_heads(torch.stack(matrices))
    assert {alone.gate_up.format, alone.down.format, heads.matrices.format} == {"bf12"}
    assert {many.gate_up.format, many.down.format} == {"bf16"}
