"""Every operation by the compiled library: shapes are checked here, memory is given and taken as addresses.

Input and output: torch tensors on the CPU in bfloat16 or float32. A wrong shape or dtype is a ValueError, an index out
of range an IndexError.
"""

import ctypes
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from kernels.cpu.draws import draw
from kernels.cpu.layer import WholeLayer, takes
from kernels.cpu.library import INSTRUCTION_SETS, checked
from kernels.cpu.panels import Panels, pack, pack_compact
from kernels.draws import DrawnRow, DrawRow
from kernels.layer import Layer
from kernels.weights import PLAIN, Done, ExpertWeights, HeadWeights, LinearWeight, Matrices, Matrix, keep

_X_BF16, _OUT_BF16, _SIGMOID = 1, 2, 4
READS_BF12 = ("cpu-avx512_bf16",)
"""Where unpacking costs less than reading; elsewhere bfloat16 keeps its sixteen bits."""


class CpuOperations:
    """With one instruction set of the library."""

    def __init__(self, library: ctypes.CDLL, instruction_set: str) -> None:
        self.name = f"cpu-{instruction_set}"
        self._library, self._isa = library, INSTRUCTION_SETS.index(instruction_set)

    def prepare_linear(self, weight: Matrix) -> LinearWeight:
        return LinearWeight(self._pack([[weight]]))

    def prepare_heads(self, weight: Tensor) -> HeadWeights:
        return HeadWeights(self._pack([[matrix] for matrix in weight]))

    def prepare_experts(
        self, gate: Sequence[Matrix], up: Sequence[Matrix], down: Sequence[Matrix], done: Done = keep
    ) -> ExpertWeights:
        held = self._pack if len(gate) == 1 else partial(pack, self._library)  # one: a block that every row takes
        wide, narrow = held(list(zip(gate, up, strict=True)), done), held([[matrix] for matrix in down], done)
        if (wide.count, wide.rows, wide.columns) != (narrow.count, 2 * narrow.columns, narrow.rows):
            raise ValueError("gate and up [I, D] and down [D, I] of as many experts are expected")
        return ExpertWeights(narrow.columns, wide, narrow)

    def _pack(self, groups: Sequence[Sequence[Matrix]], done: Done = keep) -> Panels:
        """What every row reads: as few bytes as this instruction set can read."""
        return (pack_compact if self.name in READS_BF12 else pack)(self._library, groups, done)

    def linear(self, x: Tensor, weight: LinearWeight, out: torch.dtype | None = None) -> Tensor:
        return self._linear(x, _panels(weight.matrices), out or x.dtype, 0)

    def router_scores(self, x: Tensor, weight: LinearWeight) -> Tensor:
        return self._linear(x, _panels(weight.matrices), torch.float32, _SIGMOID)

    def _linear(self, x: Tensor, panels: Panels, dtype: torch.dtype, flags: int) -> Tensor:
        x = _rows(x, 2, panels)
        result = torch.empty(len(x), panels.rows, dtype=dtype)
        self._products(x, x.stride(0), 0, panels, result, panels.rows, 0, flags)
        return result

    def linear_heads(self, x: Tensor, weight: HeadWeights) -> Tensor:
        panels = _panels(weight.matrices)
        x = _rows(x, 3, panels)
        if x.shape[1] != panels.count:
            raise ValueError(f"{panels.count} heads are expected, not {x.shape[1]}")
        result = torch.empty(len(x), panels.count, panels.rows, dtype=x.dtype)
        self._products(x, x.stride(0), x.stride(1), panels, result, panels.count * panels.rows, panels.rows, 0)
        return result

    def _products(
        self, x: Tensor, row: int, matrix: int, panels: Panels, out: Tensor, out_row: int, out_matrix: int, flags: int
    ) -> None:
        flags |= _bf16(x.dtype) * _X_BF16 | _bf16(out.dtype) * _OUT_BF16
        weight = panels.shape, panels.address, panels.scale_address
        places, strides = (x.data_ptr(), out.data_ptr()), (row, matrix, out_row, out_matrix)
        checked(self._library.moontide_products(self._isa, *weight, *places, len(x), panels.rows, *strides, flags))

    def experts(self, x: Tensor, chosen: Tensor, weight: ExpertWeights) -> Tensor:
        wide, narrow = _panels(weight.gate_up), _panels(weight.down)
        x, chosen = _rows(x, 2, wide), _indices(chosen, torch.int64, (len(x), -1))
        slots = chosen.shape[1]
        inner = torch.empty(len(x) * slots * narrow.padded, dtype=torch.float32)
        result = torch.empty(len(x), slots, narrow.rows, dtype=x.dtype)
        shapes = (ctypes.c_int64 * 8)(*wide.shape, *narrow.shape)
        weights = wide.address, wide.scale_address, narrow.address, narrow.scale_address
        places = x.data_ptr(), chosen.data_ptr(), inner.data_ptr(), result.data_ptr()
        sizes = len(x), slots, narrow.rows, x.stride(0), _bf16(x.dtype)
        checked(self._library.moontide_experts(self._isa, shapes, *weights, *places, *sizes))
        return result

    def weighted_sum(self, rows: Tensor, weights: Tensor) -> Tensor:
        rows, weights = _plain(rows, 3).contiguous(), weights.contiguous()
        if weights.shape != rows.shape[:2] or weights.dtype != torch.float32:
            raise ValueError(f"weights {tuple(rows.shape[:2])} in float32 are expected")
        result = torch.empty(len(rows), rows.shape[2], dtype=rows.dtype)
        places = rows.data_ptr(), weights.data_ptr(), result.data_ptr()
        checked(self._library.moontide_weighted_sum(self._isa, *places, *rows.shape, _bf16(rows.dtype)))
        return result

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = _plain(x, 2)
        if weight.dtype != x.dtype or weight.shape != x.shape[1:]:
            raise ValueError(f"a weight [{x.shape[1]}] in {x.dtype} is expected")
        result = torch.empty(x.shape, dtype=x.dtype)
        places = x.data_ptr(), weight.contiguous().data_ptr(), result.data_ptr()
        checked(self._library.moontide_rms_norm(self._isa, *places, *x.shape, x.stride(0), eps, _bf16(x.dtype)))
        return result

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        slots = _plain(x, 3) if x.dim() == 3 else _plain(x, 2).unsqueeze(1)
        for table in (cos, sin):
            if table.shape != (len(x), x.shape[-1] // 2) or table.dtype != torch.float32:
                raise ValueError(f"cosines and sines [{len(x)}, {x.shape[-1] // 2}] in float32 are expected")
        cos, sin, result = cos.contiguous(), sin.contiguous(), torch.empty(x.shape, dtype=x.dtype)
        places = slots.data_ptr(), cos.data_ptr(), sin.data_ptr(), result.data_ptr()
        sizes = *slots.shape, slots.stride(0), slots.stride(1), _bf16(x.dtype)
        checked(self._library.moontide_rotate(self._isa, *places, *sizes))
        return result

    def latent_attention(
        self, query: Tensor, pool: Tensor, tables: Tensor, sequences: Tensor, positions: Tensor, scale: float, rank: int
    ) -> Tensor:
        query, rows, width = _plain(query, 3).contiguous(), len(query), query.shape[2]
        if pool.dtype != query.dtype or pool.dim() != 3 or pool.shape[2] != width or not pool.is_contiguous():
            raise ValueError(f"contiguous pages [pages, PAGE, {width}] in {query.dtype} are expected")
        if width % 2 or not 0 < rank <= width:
            raise ValueError(f"an even width of at least the rank is expected, not {width} and {rank}")
        tables = _indices(tables, torch.int32, (-1, -1))
        sequences, positions = _indices(sequences, torch.int64, (rows,)), _indices(positions, torch.int64, (rows,))
        result = torch.empty(*query.shape[:2], rank, dtype=query.dtype)
        tensors = query, pool, tables, sequences, positions, result
        sizes = *query.shape, rank, pool.shape[1], len(pool), *tables.shape, scale, _bf16(query.dtype)
        checked(self._library.moontide_attention(self._isa, *(tensor.data_ptr() for tensor in tensors), *sizes))
        return result

    def whole_layer(self, layer: Layer) -> WholeLayer | None:
        return WholeLayer(self._library, self._isa, layer) if takes(layer) else None

    def draw(self, rows: Sequence[DrawRow]) -> list[DrawnRow]:
        return draw(self._library, self._isa, rows)

    def set_threads(self, count: int) -> None:
        self._library.moontide_set_threads(count)

    def threads(self) -> int:
        return self._library.moontide_threads()


def _bf16(dtype: torch.dtype) -> int:
    return int(dtype == torch.bfloat16)


def _panels(matrices: Matrices) -> Panels:
    if not isinstance(matrices, Panels):
        raise ValueError("these weights were prepared by another implementation")
    return matrices


def _plain(x: Tensor, dimensions: int) -> Tensor:
    """On the CPU, in a dtype that the library knows, elements of a row side by side."""
    if x.dim() != dimensions or x.dtype not in PLAIN or not x.is_cpu:
        raise ValueError(
            f"{dimensions} dimensions in bfloat16 or float32 on the CPU are expected, not {tuple(x.shape)}"
        )
    return x if x.stride(-1) == 1 else x.contiguous()


def _rows(x: Tensor, dimensions: int, panels: Panels) -> Tensor:
    x = _plain(x, dimensions)
    if x.shape[-1] != panels.columns:
        raise ValueError(f"{panels.columns} columns are expected, not {x.shape[-1]}")
    padding = panels.padded - panels.columns
    return torch.nn.functional.pad(x, (0, padding)) if padding else x


def _indices(values: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    fits = len(shape) == values.dim() and all(
        want in (-1, have) for want, have in zip(shape, values.shape, strict=True)
    )
    if values.dtype != dtype or not fits:
        raise ValueError(f"indices {shape} in {dtype} are expected, not {tuple(values.shape)} in {values.dtype}")
    return values.contiguous()
