"""INT4 in ``pack-quantized`` group-32 form: pack, unpack, quantise, dequantise, multiply.

The layout is that of compressed-tensors (``compressors/pack_quantized``): nibble i of word j (least significant first)
is column 8j + i, stored as q + 8; one scale per 32 columns along the input; symmetric, no zero point.
Letters: R rows (output), C columns (input), W = ceil(C/8) words, G = ceil(C/32) groups.
"""

import torch
from torch import Tensor

from kernels.formats import INT4_GROUP, INT4_PER_WORD

PACKED_DTYPE = torch.int32
SCALE_DTYPE = torch.bfloat16
SHAPE_DTYPE = torch.int32
OFFSET = 8
SMALLEST_SCALE = 1e-5
ROWS = 128
"""Dequantised at a time."""


def pack_int4_ref(values: Tensor) -> Tensor:
    """[R, C] integers in [-8, 7] to [R, W] int32 words. Columns beyond C are stored as zero bits."""
    nibbles = (values.to(torch.int32) + OFFSET) & 0xF  # [R, C]
    padding = -values.shape[1] % INT4_PER_WORD
    nibbles = torch.nn.functional.pad(nibbles, (0, padding)).view(values.shape[0], -1, INT4_PER_WORD)  # [R, W, 8]
    shifts = 4 * torch.arange(INT4_PER_WORD, dtype=torch.int32, device=values.device)  # [8]
    return (nibbles << shifts).sum(dim=-1, dtype=torch.int32)  # no two nibbles share a bit: the sum is their union


def unpack_int4_ref(packed: Tensor, columns: int) -> Tensor:
    """[R, W] int32 words to [R, C] int8 values in [-8, 7]."""
    shifts = 4 * torch.arange(INT4_PER_WORD, dtype=torch.int32, device=packed.device)  # [8]
    nibbles = (packed.unsqueeze(-1) >> shifts) & 0xF  # [R, W, 8]
    return (nibbles.flatten(1)[:, :columns] - OFFSET).to(torch.int8)


def quantize_int4_ref(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[R, C] floats to values [R, C] int8 in [-7, 7] and scales [R, G] bfloat16.

    The grid of the released quantisation-aware training as re-implemented in miles: scale = max(amax / 7, 1e-5),
    q = clamp(round(w / scale), -7, 7). Rounding uses the scale as stored, in bfloat16.
    """
    rows, columns = weight.shape
    padded = torch.nn.functional.pad(weight.float(), (0, -columns % INT4_GROUP))
    padded = padded.view(rows, -1, INT4_GROUP)  # [R, G, 32]
    scale = (padded.abs().amax(dim=-1) / 7).clamp_min(SMALLEST_SCALE).to(SCALE_DTYPE)  # [R, G]
    values = (padded / scale.float().unsqueeze(-1)).round().clamp(-7, 7).to(torch.int8)  # [R, G, 32]
    return values.flatten(1)[:, :columns], scale


def dequantize_int4_ref(packed: Tensor, scale: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """[R, W] words and [R, G] scales to [R, C]: w = q * scale in float32, then one rounding to ``dtype``.

    Some rows at a time: what lies between words and weights stays small.
    """
    weight = torch.empty(len(packed), columns, dtype=dtype, device=packed.device)  # [R, C]
    for rows, words, scales in zip(weight.split(ROWS), packed.split(ROWS), scale.split(ROWS), strict=True):
        wide = scales.float().repeat_interleave(INT4_GROUP, dim=1)[:, :columns]
        rows.copy_(unpack_int4_ref(words, columns).float().mul_(wide))
    return weight


def linear_int4_ref(x: Tensor, packed: Tensor, scale: Tensor) -> Tensor:
    """[N, C] times the transposed matrix: [N, R] in the dtype of ``x``, with the weight dequantised to that dtype."""
    return x @ dequantize_int4_ref(packed, scale, x.shape[-1], x.dtype).T
