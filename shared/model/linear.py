"""Matrix multiplications without bias: plain weights, or INT4 weights that are dequantised where they are used."""

import torch
from torch import Tensor, nn

from kernels.formats import PACKED_DTYPE, SCALE_DTYPE, SHAPE_DTYPE, int4_shapes
from kernels.reference.int4 import dequantize_int4_ref, linear_int4_ref


class Linear(nn.Module):
    """y = x W^T with W [rows, columns] in the compute dtype."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__()
        self.columns, self.rows = columns, rows
        self.weight = nn.Parameter(torch.empty(rows, columns), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight)

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """W itself, [rows, columns]."""
        return self.weight.to(dtype)


class Int4Linear(nn.Module):
    """The same with W in ``pack-quantized`` form, under the released names."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__()
        self.columns, self.rows = columns, rows
        shapes = int4_shapes(rows, columns)
        self.register_buffer("weight_packed", torch.empty(shapes.packed, dtype=PACKED_DTYPE))
        self.register_buffer("weight_scale", torch.empty(shapes.scale, dtype=SCALE_DTYPE))
        self.register_buffer("weight_shape", torch.empty(shapes.shape, dtype=SHAPE_DTYPE))

    def forward(self, x: Tensor) -> Tensor:
        return linear_int4_ref(x, self.get_buffer("weight_packed"), self.get_buffer("weight_scale"))

    def matrix(self, dtype: torch.dtype) -> Tensor:
        packed, scale = self.get_buffer("weight_packed"), self.get_buffer("weight_scale")
        return dequantize_int4_ref(packed, scale, self.columns, dtype)


AnyLinear = Linear | Int4Linear
