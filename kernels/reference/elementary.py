"""Sums and exponentials whose bits do not depend on the shape around them.

Torch's products, sums and even ``exp`` choose their order or their code by shape, alignment and thread count. Here
everything is made of elementwise additions, multiplications, divisions and roots, which IEEE 754 defines exactly, in an
order that follows from the length of the reduced dimension alone.
"""

import torch
from torch import Tensor

TEMPORARY = 1 << 19
"""Elements of a temporary: small enough to stay in a cache."""
LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4  # Cody and Waite's split of ln 2: n * LN2_HIGH is exact
POWERS = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
"""Of exp(r) = 1 + r + r^2 (...) on |r| <= ln 2 / 2, the minimax polynomial of Cephes ``expf``."""


def fold(terms: Tensor, dim: int = -1) -> Tensor:
    """Sum over a dimension, in float32: the upper half is added to the lower half until one term is left."""
    while (size := terms.shape[dim]) > 1:
        half = size // 2
        folded = terms.narrow(dim, 0, half) + terms.narrow(dim, half, half)
        if size % 2:
            folded.select(dim, 0).add_(terms.select(dim, -1))
        terms = folded
    return terms.squeeze(dim) if terms.shape[dim] else terms.sum(dim)


def dots(x: Tensor, weight: Tensor) -> Tensor:
    """[T, K] times [N, K]: [T, N] float32."""
    x, weight = x.float(), weight.float()
    result = x.new_empty(len(x), len(weight))
    rows = max(1, min(len(weight), TEMPORARY // max(1, x.shape[1])))
    tokens = max(1, TEMPORARY // max(1, rows * x.shape[1]))
    for first in range(0, len(weight), rows):
        part = weight[first : first + rows]
        for token in range(0, len(x), tokens):
            result[token : token + tokens, first : first + rows] = fold(x[token : token + tokens, None] * part)
    return result


def exp(x: Tensor) -> Tensor:
    """e to the x in float32, within 2 units in the last place; below -87 it is 0, above 88 it is infinite."""
    whole = (x.clamp(-88.0, 89.0) * LOG2_E).round()
    rest = (x.clamp(-88.0, 89.0) - whole * LN2_HIGH) - whole * LN2_LOW
    series = torch.full_like(rest, POWERS[0])
    for power in POWERS[1:]:
        series = series * rest + power
    value = (series * rest) * rest + rest + 1.0
    power_of_two = ((whole.nan_to_num().to(torch.int32) + 127) << 23).view(torch.float32)
    scaled = torch.where(x > 88.0, torch.inf, value * power_of_two)
    return torch.where(x < -87.0, 0.0, scaled)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x) in float32."""
    return 1.0 / (1.0 + exp(-x))
