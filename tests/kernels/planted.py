"""A kernel as one would write it without thinking of batches: another order of summation for more than one row."""

import torch
from torch import Tensor

from kernels.reference.elementary import dots
from kernels.reference.operations import ReferenceOperations
from kernels.weights import LinearWeight


class BatchDependent(ReferenceOperations):
    name = "planted"

    def linear(self, x: Tensor, weight: LinearWeight, out: torch.dtype | None = None) -> Tensor:
        if len(x) == 1 or weight.matrices.scales is not None:
            return super().linear(x, weight, out)
        return dots(x.roll(1, -1), weight.matrices.values[0].roll(1, -1)).to(out or x.dtype)
