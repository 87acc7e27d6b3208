"""Weights in panels: the layout that ``jobs.h`` describes, made once when weights are loaded.

Input: matrices of a checkpoint. Output: ``Panels``, in the bytes of the format they came in.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.formats import BF12_MOST_SPARE, INT4_GROUP, bf12_bytes
from kernels.weights import Done, Int4, Matrices, Matrix, check_alike, format_of, keep

BLOCK = 64
"""Output columns of a block."""
PANEL = 16
_FORMATS = {"bf16": 0, "f32": 1, "int4": 2, "bf12": 3}
COMPACTED_WEIGHTS = 1 << 20
"""At a time."""
BF12_READ_BEHIND = 64
"""Bytes that unpacking reads behind the last one that it needs, at most."""
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
    size = _size_of(groups)
    values, scales = _zeros(size.kind, len(groups), size.blocks * BLOCK, size.padded)
    for index, group in enumerate(groups):
        for member, matrix in enumerate(group):
            factors = None if scales is None else scales[index]
            _pack_one(library, matrix, values[index], factors, size.padded, member, size.members)
            done(matrix)
    return _panels(size, size.kind, values, scales)


def pack_compact(library: ctypes.CDLL, groups: Sequence[Sequence[Matrix]], done: Done = keep) -> Panels:
    """The same, with bfloat16 as bf12 in three quarters of the bytes, unless too much of it has no code."""
    packed = _compacted(library, groups, done) if format_of(groups[0][0]) == "bf16" else None
    return pack(library, groups, done) if packed is None else packed


@dataclass(frozen=True)
class _Size:
    kind: str
    count: int
    members: int
    rows: int
    """Of a member."""
    columns: int
    blocks: int
    """Of a matrix."""
    padded: int


def _size_of(groups: Sequence[Sequence[Matrix]]) -> _Size:
    rows, columns = check_alike([matrix for group in groups for matrix in group])
    members, kind = len(groups[0]), format_of(groups[0][0])
    blocks, padded = -(-rows // (BLOCK // members)), -(-columns // INT4_GROUP) * INT4_GROUP
    return _Size(kind, len(groups), members, rows, columns, blocks, padded)


def _compacted(library: ctypes.CDLL, groups: Sequence[Sequence[Matrix]], done: Done) -> Panels | None:
    """Some blocks after the other, ``done`` with their rows, so that no matrix is there twice. None when too much of it
    has no code."""
    size = _size_of(groups)
    block_bytes, some = bf12_bytes(BLOCK, size.padded), max(1, COMPACTED_WEIGHTS // (BLOCK * size.padded))
    values = torch.empty(size.count, size.blocks * block_bytes, dtype=torch.uint8)
    room = torch.empty(min(some, size.blocks), BLOCK * size.padded, dtype=torch.bfloat16)
    most = int(size.count * size.blocks * BLOCK * size.padded * BF12_MOST_SPARE)
    spares, spare_bytes = [torch.empty(0, dtype=torch.uint8)], 0
    for index, group in enumerate(groups):
        for start in range(0, size.blocks, some):
            plain = room[: size.blocks - start].zero_()
            _pack_some(library, group, plain, size, start, done)
            to, blocks = values[index, start * block_bytes :].data_ptr(), len(plain)
            end = library.moontide_bf12_heads(plain.data_ptr(), to, blocks, size.padded, spare_bytes)
            if end > most:
                return None
            spares.append(torch.empty(end - spare_bytes, dtype=torch.uint8))
            library.moontide_bf12_pack(plain.data_ptr(), to, spares[-1].data_ptr(), blocks, size.padded, spare_bytes)
            spare_bytes = end
    spare = torch.cat((*spares, torch.zeros(BF12_READ_BEHIND, dtype=torch.uint8)))
    return _panels(size, "bf12", values, spare)


def _pack_some(
    library: ctypes.CDLL, group: Sequence[Matrix], plain: Tensor, size: _Size, start: int, done: Done
) -> None:
    """Blocks from ``start`` on, as many as ``plain`` [blocks, words] has room for."""
    share = BLOCK // size.members
    for member, matrix in enumerate(group):
        assert isinstance(matrix, Tensor)
        piece = matrix[start * share : (start + len(plain)) * share]
        _pack_one(library, piece, plain, None, size.padded, member, size.members)
        done(piece)


def _panels(size: _Size, kind: str, values: Tensor, scales: Tensor | None) -> Panels:
    shape = (ctypes.c_int64 * 4)(_FORMATS[kind], size.count, size.blocks, size.padded)
    address = 0 if scales is None else scales.data_ptr()
    rows = size.rows * size.members
    return Panels(
        size.count, rows, size.columns, kind, values, scales, "panels", size.padded, shape, values.data_ptr(), address
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
