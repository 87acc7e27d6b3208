"""Matrices without bias, plain or INT4, under the released names, and how they are handed to the kernels.

Input: rows [T, columns]. Output: [T, rows]. The weights come as the checkpoint has them; ``prepare`` lays them out for
the kernels once and drops that form. A module that was not prepared does it anew at every call: slow, same bits.
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from kernels import dispatch
from kernels.formats import int4_shapes
from kernels.reference.int4 import PACKED_DTYPE, SCALE_DTYPE, SHAPE_DTYPE, dequantize_int4_ref
from kernels.weights import Done, Int4, LinearWeight, Matrix, keep

W = TypeVar("W")


class Prepared(nn.Module, Generic[W]):
    """A module whose matrices the kernels want in a form of their own."""

    _ready: W | None = None

    def lay_out(self, done: Done = keep) -> W:
        """The kernels' form of the matrices of this module; ``done`` is told of each that was read."""
        raise NotImplementedError

    @property
    def ready(self) -> W:
        return self.lay_out() if self._ready is None else self._ready

    @property
    def is_prepared(self) -> bool:
        return self._ready is not None

    def prepare(self, done: Done = keep) -> None:
        """Keep the kernels' form, and only that."""
        if self._ready is None:
            self._ready = self.lay_out(done)
            for module in self.modules():
                if isinstance(module, Linear | Int4Linear):
                    module.drop()

    def prepared_tensors(self) -> Iterator[Tensor]:
        """What ``prepare`` keeps; nothing before."""
        return _tensors(self._ready)


class Linear(Prepared[LinearWeight]):
    """y = x W^T with W [rows, columns]."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__()
        self.columns, self.rows = columns, rows
        self.weight = nn.Parameter(torch.empty(rows, columns), requires_grad=False)

    @property
    def matrix(self) -> Matrix:
        return self.weight

    @property
    def plain(self) -> Tensor:
        """W itself, [rows, columns]."""
        return self.weight

    def lay_out(self, done: Done = keep) -> LinearWeight:
        laid_out = dispatch.prepare_linear(self.matrix)
        done(self.matrix)
        return laid_out

    def forward(self, x: Tensor, out: torch.dtype | None = None) -> Tensor:
        return dispatch.linear(x, self.ready, out)

    def drop(self) -> None:
        self.weight = nn.Parameter(self.weight.to("meta"), requires_grad=False)


class Int4Linear(Prepared[LinearWeight]):
    """The same with W in ``pack-quantized`` form."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__()
        self.columns, self.rows = columns, rows
        shapes = int4_shapes(rows, columns)
        self.register_buffer("weight_packed", torch.empty(shapes.packed, dtype=PACKED_DTYPE))
        self.register_buffer("weight_scale", torch.empty(shapes.scale, dtype=SCALE_DTYPE))
        self.register_buffer("weight_shape", torch.empty(shapes.shape, dtype=SHAPE_DTYPE))

    @property
    def matrix(self) -> Matrix:
        return Int4(self.get_buffer("weight_packed"), self.get_buffer("weight_scale"), self.columns)

    @property
    def plain(self) -> Tensor:
        """W in float32, [rows, columns]: no rounding, four bits times a bfloat16 scale are exact there."""
        packed, scale = self.get_buffer("weight_packed"), self.get_buffer("weight_scale")
        return dequantize_int4_ref(packed, scale, self.columns, torch.float32)

    def lay_out(self, done: Done = keep) -> LinearWeight:
        laid_out = dispatch.prepare_linear(self.matrix)
        done(self.matrix)
        return laid_out

    def forward(self, x: Tensor, out: torch.dtype | None = None) -> Tensor:
        return dispatch.linear(x, self.ready, out)

    def drop(self) -> None:
        for name, buffer in self.named_buffers(recurse=False):
            setattr(self, name, buffer.to("meta"))


AnyLinear = Linear | Int4Linear


def prepare(module: nn.Module, done: Done = keep) -> None:
    """Lay out everything under ``module``; the outermost form wins (experts of a layer together)."""
    if isinstance(module, Prepared):
        module.prepare(done)
        return
    for child in module.children():
        prepare(child, done)


def held_tensors(module: nn.Module) -> Iterator[Tensor]:
    """Every weight under ``module`` that is in memory, in whatever form."""
    for part in module.modules():
        yield from (tensor for tensor in part.parameters(recurse=False) if not tensor.is_meta)
        yield from (tensor for tensor in part.buffers(recurse=False) if not tensor.is_meta)
        if isinstance(part, Prepared):
            yield from part.prepared_tensors()


def _tensors(weight: Any) -> Iterator[Tensor]:
    if isinstance(weight, Tensor):
        yield weight
    elif is_dataclass(weight):
        for field in fields(weight):
            yield from _tensors(getattr(weight, field.name))
