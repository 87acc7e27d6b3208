"""Weights as callers hand them over, and as operations keep them.

Input: tensors of a checkpoint. Output: ``Matrices`` of one format, which every implementation lays out in its own way.
Letters: G matrices, N rows (output), K columns (input).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.formats import INT4_GROUP, INT4_PER_WORD

PLAIN = (torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class Int4:
    """One matrix [N, K] in ``pack-quantized`` group-32 form: words [N, ceil(K/8)] int32, scales [N, ceil(K/32)]."""

    packed: Tensor
    scale: Tensor
    columns: int

    def __post_init__(self) -> None:
        expected = (
            (len(self.packed), -(-self.columns // INT4_PER_WORD)),
            (len(self.packed), -(-self.columns // INT4_GROUP)),
        )
        if (tuple(self.packed.shape), tuple(self.scale.shape)) != expected:
            raise ValueError(
                f"INT4 of {self.columns} columns: words {tuple(self.packed.shape)}, scales "
                f"{tuple(self.scale.shape)}, expected {expected[0]} and {expected[1]}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.packed), self.columns


Matrix = Tensor | Int4
"""[N, K] in bfloat16 or float32, or INT4."""

Done = Callable[[Matrix], None]
"""Called with a matrix, or some rows of it, when its bytes lie elsewhere, so that those of a mapped file need not stay
in memory. It may be read once more."""


def keep(matrix: Matrix) -> None:
    """The ``Done`` of who wants nothing back."""


@dataclass(frozen=True)
class Matrices:
    """``count`` matrices [rows, columns] of one format, as one implementation lays them out."""

    count: int
    rows: int
    columns: int
    format: str
    """``bf16``, ``bf12``, ``f32`` or ``int4``."""
    values: Tensor
    scales: Tensor | None
    layout: str
    """Of whom: ``reference`` or ``panels``."""

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + (0 if self.scales is None else self.scales.nbytes)


@dataclass(frozen=True)
class LinearWeight:
    """One matrix [rows, columns]."""

    matrices: Matrices

    @property
    def nbytes(self) -> int:
        return self.matrices.nbytes


@dataclass(frozen=True)
class HeadWeights:
    """One matrix per head."""

    matrices: Matrices

    @property
    def nbytes(self) -> int:
        return self.matrices.nbytes


@dataclass(frozen=True)
class ExpertWeights:
    """Gate and up of every expert in one matrix of 2 I rows, as the implementation orders them, and down [D, I]."""

    inner: int
    gate_up: Matrices
    down: Matrices

    @property
    def nbytes(self) -> int:
        return self.gate_up.nbytes + self.down.nbytes


def check_alike(matrices: Sequence[Matrix]) -> tuple[int, int]:
    """Shape [N, K] that all of them have. ValueError names what differs or is not supported."""
    if not matrices:
        raise ValueError("no matrices")
    shapes = {tuple(matrix.shape) for matrix in matrices}
    kinds = {"int4" if isinstance(matrix, Int4) else str(matrix.dtype) for matrix in matrices}
    if len(shapes) != 1 or len(kinds) != 1:
        raise ValueError(f"matrices of one kind are expected, these have shapes {shapes} and formats {kinds}")
    first = matrices[0]
    if isinstance(first, Tensor) and (first.dim() != 2 or first.dtype not in PLAIN):
        raise ValueError(f"a matrix is [N, K] in bfloat16 or float32, not {tuple(first.shape)} in {first.dtype}")
    rows, columns = first.shape
    return rows, columns


def format_of(matrix: Matrix) -> str:
    if isinstance(matrix, Int4):
        return "int4"
    return "bf16" if matrix.dtype == torch.bfloat16 else "f32"
