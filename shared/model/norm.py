"""Root mean square normalisation (arXiv 1910.07467), as all DeepSeek-style text models apply it."""

import torch
from torch import Tensor, nn

from kernels import dispatch


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) in float32, rounded to the dtype of x, then times the weight."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size), requires_grad=False)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return dispatch.rms_norm(x, self.weight, self.eps)
