"""Weights in panels: the layout that ``jobs.h`` describes, made once when weights are loaded.

Input: matrices of a checkpoint. Output: ``Panels``, in the bytes of the format they came in.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.formats import INT4_GROUP
from kernels.weights import Done, Int4, Matrices, Matrix, check_alike, format_of, keep

BLOCK = 64
"""Output columns of a block."""
PANEL = 16
_FORMATS = {"bf16": 0, "f32": 1, "int4": 2}
_EIGHTS = -0x77777778
"""Eight nibbles of 8, which stand for zero."""


@dataclass(frozen=True)
class Panels(Matrices):
    padded: int
    """Columns with padding."""
    shape: ctypes.Array[ctypes.c_int64]
    """format, count, blocks, padded columns: as the library wants them."""
    address: int
    scale_address: int


def pack(library: ctypes.CDLL, groups: Sequence[Sequence[Matrix]], done: Done = keep) -> Panels:
    """One matrix per item of ``groups``: the panels of its members in turns (gate, up, gate, up, …). ``done`` is told
    of each matrix that is no longer needed."""
    rows, columns = check_alike([matrix for group in groups for matrix in group])
    members, kind = len(groups[0]), format_of(groups[0][0])
    panels = -(-rows // (BLOCK // members)) * (BLOCK // PANEL)
    padded = -(-columns // INT4_GROUP) * INT4_GROUP
    values, scales = _zeros(kind, len(groups), panels * PANEL, padded)
    for index, group in enumerate(groups):
        for member, matrix in enumerate(group):
            _pack_one(
                library, matrix, values[index], None if scales is None else scales[index], padded, member, members
            )
            done(matrix)
    shape = (ctypes.c_int64 * 4)(_FORMATS[kind], len(groups), panels * PANEL // BLOCK, padded)
    address = 0 if scales is None else scales.data_ptr()
    return Panels(
        len(groups), rows * members, columns, kind, values, scales, "panels", padded, shape, values.data_ptr(), address
    )


def _zeros(kind: str, count: int, rows: int, columns: int) -> tuple[Tensor, Tensor | None]:
    if kind == "int4":
        words = torch.full((count, rows * columns // 8), _EIGHTS, dtype=torch.int32)
        return words, torch.zeros(count, rows * columns // INT4_GROUP, dtype=torch.bfloat16)
    return torch.zeros(count, rows * columns, dtype=torch.bfloat16 if kind == "bf16" else torch.float32), None


def _pack_one(
    library: ctypes.CDLL, matrix: Matrix, values: Tensor, scales: Tensor | None, padded: int, first: int, step: int
) -> None:
    rows, columns = matrix.shape
    if isinstance(matrix, Int4):
        words, factors = matrix.packed.contiguous(), matrix.scale.to(torch.bfloat16).contiguous()
        assert scales is not None
        places = words.data_ptr(), factors.data_ptr(), values.data_ptr(), scales.data_ptr()
        library.moontide_pack_int4(*places, rows, columns, padded, first, step)
    else:
        plain = matrix.contiguous()
        size = plain.element_size()
        library.moontide_pack(plain.data_ptr(), values.data_ptr(), size, rows, columns, padded, first, step)
