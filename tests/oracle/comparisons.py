"""Each comparison with an independent implementation gives one row: what, how many configurations, how far apart."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize
from torch import Tensor

from kernels.reference.int4 import dequantize_int4_ref, pack_int4_ref, quantize_int4_ref, unpack_int4_ref
from shared.model.network import Network
from tests.oracle.configurations import random_document, random_ids, random_network, random_patches, random_vl_document
from tests.oracle.networks import text_oracle, vision_oracle, whole_oracle
from tests.sequence import hidden_rows, logits

TOLERANCE = 1e-4
LENGTH = 64
Document = Callable[[int], dict[str, Any]]
LAST = 262_144
GRIDS = ((1, 2, 2), (1, 6, 10), (2, 2, 14), (3, 6, 6), (4, 14, 24), (1, 64, 64), (1, 2, 66), (4, 10, 2))


@dataclass(frozen=True)
class Row:
    what: str
    configurations: int
    largest: float
    limit: float

    @property
    def good(self) -> bool:
        return self.largest <= self.limit


def text_logits(seeds: Iterable[int], first: int = 0) -> Row:
    """One pass over 64 positions from ``first`` on."""

    def difference(seed: int) -> float:
        network = random_network(seed)
        ids = random_ids(LENGTH, network.config.text.vocab_size, seed)
        return _apart(_logits(network, ids, [], offset=first), _oracle_logits(network, ids, first))

    return _row(f"text logits, positions {first:,} to {first + LENGTH - 1:,}", seeds, difference)


def ways_of_feeding(seeds: Iterable[int]) -> Row:
    """Slices of 16 and single tokens against the oracle's one pass."""

    def difference(seed: int) -> float:
        network = random_network(seed)
        ids = random_ids(LENGTH, network.config.text.vocab_size, seed)
        expected = _oracle_logits(network, ids, 0)
        sliced = _logits(network, ids, [16, 32, 48])
        stepped = _logits(network, ids, list(range(1, LENGTH)))
        return max(_apart(sliced, expected), _apart(stepped, expected))

    return _row("text logits, slices and single steps", seeds, difference)


def vision_rows(seeds: Iterable[int]) -> Row:
    """Tower and projector, t = 1 to 4, odd grids."""

    def difference(seed: int) -> float:
        network = random_network(seed)
        tower, projector = vision_oracle(network)
        apart = 0.0
        for grid in GRIDS:
            patches = random_patches(grid, seed)
            merged = tower(_pixels(patches), grid_thw=torch.tensor([grid])).pooler_output
            apart = max(apart, _apart(network.encode(patches, grid), projector(merged).squeeze(1)))
        return apart

    return _row("vision embeddings, t = 1 to 4, odd grids", seeds, difference)


def kimi_vl_rows(seeds: Iterable[int]) -> Row:
    """Tower and projector of Kimi-VL, one frame."""

    def difference(seed: int) -> float:
        network = random_network(seed, random_vl_document)
        tower, projector = vision_oracle(network)
        apart = 0.0
        for _, height, width in GRIDS:
            grid = (1, height, width)
            patches = random_patches(grid, seed)
            merged = tower(_pixels(patches), grid_thw=torch.tensor([grid])).pooler_output
            apart = max(apart, _apart(network.encode(patches, grid), projector(merged).squeeze(1)))
        return apart

    return _row("Kimi-VL: image embeddings, odd grids", seeds, difference)


def kimi_vl_logits(seeds: Iterable[int]) -> Row:
    return image_logits(seeds, random_vl_document, "Kimi-VL: image-conditioned logits")


def image_logits(
    seeds: Iterable[int], document: Document = random_document, what: str = "image-conditioned logits"
) -> Row:
    """The whole model with an image in the prompt."""

    def difference(seed: int) -> float:
        network = random_network(seed, document)
        grid, at, pad = (1, 6, 10), 7, network.config.media_placeholder_token_id
        assert pad is not None
        ids = random_ids(LENGTH, pad, seed)
        patches = random_patches(grid, seed)
        rows = network.encode(patches, grid)
        ids[at : at + len(rows)] = pad
        text = network.language_model
        ours = text.logits(hidden_rows(text, network.embed(ids, [(at, rows)])))
        oracle = whole_oracle(network)
        inputs = {"pixel_values": _pixels(patches), "image_grid_thw": torch.tensor([grid])}
        return _apart(ours, oracle(input_ids=ids.unsqueeze(0), **inputs).logits[0])

    return _row(what, seeds, difference)


def bfloat16_choice(seeds: Iterable[int]) -> Row:
    """How often bfloat16 has another argmax although the float32 margin exceeds twice the bfloat16 error."""

    def difference(seed: int) -> float:
        network = random_network(seed)
        ids = random_ids(LENGTH, network.config.text.vocab_size, seed)
        exact = _oracle_logits(network, ids, 0)
        rough = _logits(network.to(torch.bfloat16), ids, [])
        top = exact.topk(2, dim=-1).values
        sure = top[:, 0] - top[:, 1] > 2 * (rough - exact).abs().amax(-1)
        return float((rough.argmax(-1) != exact.argmax(-1))[sure].sum())

    return _row("bfloat16: other argmax where the margin is clear", seeds, difference)


def int4(columns: Iterable[int]) -> Row:
    """Packed words and dequantised weights, both ways, against compressed-tensors: bits that differ."""
    arguments = QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="group", group_size=32)

    def difference(count: int) -> float:
        weight = torch.randn(12, count, generator=torch.Generator().manual_seed(count))
        values, scale = quantize_int4_ref(weight)
        packed = pack_int4_ref(values)
        theirs = pack_to_int32(values, 4)
        wrong = int((packed != theirs).sum()) + int((unpack_int4_ref(theirs, count) != values).sum())
        wrong += int((unpack_from_int32(packed, 4, torch.Size([12, count])) != values).sum())
        if count % 32 == 0:  # the package dequantises whole groups only
            expected = dequantize(values, scale, args=arguments)
            wrong += int((dequantize_int4_ref(packed, scale, count, expected.dtype) != expected).sum())
        return float(wrong)

    return _row("INT4 against compressed-tensors, values that differ", columns, difference, limit=0.0)


def _row(what: str, cases: Iterable[int], difference: Callable[[int], float], limit: float = TOLERANCE) -> Row:
    with torch.no_grad():
        apart = [difference(case) for case in cases]
    return Row(what, len(apart), max(apart), limit)


def _logits(network: Network, ids: Tensor, cuts: list[int], *, offset: int = 0) -> Tensor:
    return logits(network.language_model, ids, cuts, offset=offset)


def _oracle_logits(network: Network, ids: Tensor, first: int) -> Tensor:
    positions = torch.arange(first, first + len(ids)).unsqueeze(0)
    return text_oracle(network)(ids.unsqueeze(0), position_ids=positions).logits[0]


def _pixels(patches: Tensor) -> Tensor:
    return (patches.float() / 255 - 0.5) * 2


def _apart(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max())
