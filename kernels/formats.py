"""How numbers are laid out in memory: today the INT4 layout of released checkpoints.

Input: shapes. Output: the shapes and dtypes of the stored tensors. It must not know models, files or devices.
"""

from dataclasses import dataclass

import torch

INT4_GROUP = 32
"""Columns that share one scale."""
INT4_PER_WORD = 8
"""Nibbles in one int32 word."""


@dataclass(frozen=True)
class Int4Shapes:
    """Stored shapes of a [rows, columns] matrix in ``pack-quantized`` form."""

    packed: tuple[int, int]
    scale: tuple[int, int]
    shape: tuple[int]


PACKED_DTYPE = torch.int32
SCALE_DTYPE = torch.bfloat16
SHAPE_DTYPE = torch.int32


def int4_shapes(rows: int, columns: int) -> Int4Shapes:
    """``pack-quantized`` group-32: [R, ceil(C/8)] words, [R, ceil(C/32)] scales, and the shape itself as two int32."""
    return Int4Shapes((rows, -(-columns // INT4_PER_WORD)), (rows, -(-columns // INT4_GROUP)), (2,))
