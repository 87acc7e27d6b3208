"""How numbers are laid out in memory: the INT4 layout of released checkpoints, and bfloat16 in twelve bits.

bf12 holds bfloat16 without loss. Its low byte is kept as it is. Of the high byte, the sign and seven bits of exponent,
trained weights use few values: fifteen of them get a code of four bits, and code 0 says that the byte is spelled out
elsewhere. (Why so little is used: DFloat11, arXiv 2504.11651, which takes variable lengths instead.)

Input: shapes. Output: the shapes of the stored tensors. It must not know models, files or devices, nor torch: what only
counts bytes runs without it.
"""

from dataclasses import dataclass

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


def int4_shapes(rows: int, columns: int) -> Int4Shapes:
    """``pack-quantized`` group-32: [R, ceil(C/8)] words, [R, ceil(C/32)] scales, and the shape itself as two int32."""
    return Int4Shapes((rows, -(-columns // INT4_PER_WORD)), (rows, -(-columns // INT4_GROUP)), (2,))


BF12_CODES = 16
"""Of which code 0 says that the high byte is spelled out."""
BF12_HEAD_BYTES = 64
"""In front of a block: what its codes stand for, and where its bytes without a code begin."""
BF12_MOST_SPARE = 1 / 512
"""Of the weights may lack a code: with more of them reading takes longer than it saves."""


def bf12_bytes(rows: int, columns: int) -> int:
    """Of one block of a matrix, without what is spelled out."""
    return BF12_HEAD_BYTES + rows * columns * 12 // 8
