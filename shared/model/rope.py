"""Rotary positions of the text model: YaRN frequencies, the rotation, and the softmax scale that goes with them.

Input: configuration, positions. Output: cos and sin tables and rotated tensors.
Letters: P = qk_rope_head_dim, T tokens. Pairs are interleaved: elements 2i and 2i+1 turn by position * frequency i.
"""

import math

import torch
from torch import Tensor

from shared.model.config import TextConfig, YarnConfig


def frequencies(config: TextConfig) -> Tensor:
    """Angle per position of every pair, [P/2] float32.

    YaRN, arXiv 2309.00071 section 3.2 ("NTK-by-parts"), in the order of operations of DeepSeek-V3's implementation: at
    position 262,143 the last bit of a frequency is worth a hundredth of a radian, so the order matters.
    """
    size = config.qk_rope_head_dim
    powers = config.rope_theta ** (torch.arange(0, size, 2, dtype=torch.float32) / size)  # [P/2]
    if config.yarn is None:
        return 1.0 / powers
    low, high = _correction_range(config.yarn, size, config.rope_theta)
    ramp = ((torch.arange(size // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)  # [P/2]
    keep = 1 - ramp
    return (1.0 / (config.yarn.factor * powers)) * (1 - keep) + (1.0 / powers) * keep


def _correction_range(yarn: YarnConfig, size: int, theta: float) -> tuple[float, float]:
    """Pairs below the first number keep their frequency, pairs above the second are divided by the factor."""

    def pair(rotations: float) -> float:
        length = yarn.original_max_position_embeddings
        return size * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(pair(yarn.beta_fast)), 0)
    high = min(math.ceil(pair(yarn.beta_slow)), size - 1)
    return low, high + 0.001 if low == high else high


def softmax_scale(config: TextConfig) -> float:
    """qk_head_dim^-0.5, times m^2 with m = 0.1 * mscale_all_dim * ln(factor) + 1 (DeepSeek-V3, ``DeepseekV3Attention``,
    after arXiv 2309.00071 section 3.3)."""
    scale = config.qk_head_dim**-0.5
    if config.yarn and config.yarn.mscale_all_dim:
        scale *= _mscale(config.yarn.factor, config.yarn.mscale_all_dim) ** 2
    return scale


def table_scale(config: TextConfig) -> float:
    """Multiplier of cos and sin: the ratio of the two magnitude scales, 1.0 in every released checkpoint."""
    yarn = config.yarn
    if yarn is None:
        return 1.0
    if not (yarn.mscale and yarn.mscale_all_dim):
        return _mscale(yarn.factor, 1.0)
    return _mscale(yarn.factor, yarn.mscale) / _mscale(yarn.factor, yarn.mscale_all_dim)


def _mscale(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


class RotaryTable:
    """cos and sin of every position reached so far. Filled by blocks of one size: torch's cosine has other bits in a
    vector than in the tail of a tensor, so a position must always be computed at the same place of a tensor."""

    BLOCK = 64

    def __init__(self, config: TextConfig, device: torch.device) -> None:
        self._scale, self._device = table_scale(config), device
        self._inverse = frequencies(config)
        self._cos = self._sin = torch.empty(0, len(self._inverse), device=device)

    def rows(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, [T, P/2] float32, of positions [T]."""
        end = int(positions.max()) + 1
        if end > len(self._cos):
            self._extend(max(end, 2 * len(self._cos)))
        return self._cos.index_select(0, positions), self._sin.index_select(0, positions)

    def _extend(self, end: int) -> None:
        cos, sin = [self._cos], [self._sin]
        for first in range(len(self._cos), end, self.BLOCK):
            positions = torch.arange(first, first + self.BLOCK, dtype=torch.float32)
            angles = positions.unsqueeze(-1) * self._inverse  # [BLOCK, P/2]
            cos.append((angles.cos() * self._scale).to(self._device))
            sin.append((angles.sin() * self._scale).to(self._device))
        self._cos, self._sin = torch.cat(cos), torch.cat(sin)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn interleaved pairs of x [..., P] by tables that broadcast to [..., P/2]; float32 inside (arXiv 2104.09864,
    eq. 34)."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)  # [..., P/2] each
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2).to(x.dtype)
