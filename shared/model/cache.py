"""The latent cache of one layer and one sequence, in blocks, so that a long context is never copied or reserved.

Input: rows [T, kv_lora_rank + qk_rope_head_dim] in order of position. Output: the blocks that hold positions 0 to n.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 1024
"""Positions per block. Part of the numerics: attention sums block by block."""


class LatentCache:
    def __init__(self, width: int, dtype: torch.dtype, device: torch.device) -> None:
        self.length = 0
        self._width, self._dtype, self._device = width, dtype, device
        self._blocks: list[Tensor] = []

    def append(self, rows: Tensor) -> None:
        """Store rows [T, width] at positions length to length + T - 1."""
        while len(rows):
            inside = self.length % BLOCK
            if inside == 0:
                self._blocks.append(torch.empty(BLOCK, self._width, dtype=self._dtype, device=self._device))
            taken = min(len(rows), BLOCK - inside)
            self._blocks[-1][inside : inside + taken] = rows[:taken]
            self.length += taken
            rows = rows[taken:]

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """(first position, [n, width]) of everything stored, n <= BLOCK."""
        for index, block in enumerate(self._blocks):
            start = index * BLOCK
            yield start, block[: self.length - start]
