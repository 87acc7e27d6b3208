"""MoonViT3d: the vision tower for one image, or one chunk of up to four frames. With one frame it is MoonViT, the
tower of Kimi-VL, under the same names.

Input: normalised patches [T*h*w, 3, 14, 14] in raster order and their grid (T, h, w). Output: merged patches.
Letters: T frames, h and w patches, N = T*h*w, C hidden size, A heads, B head size.
Source: arXiv 2504.07491 section 2.1 (native resolution, 2-D rotary) and 2602.02276 (time, temporal pooling); constants
as in the released ``modeling_kimi_k25.py``.
"""

import torch
from torch import Tensor, nn

from shared.model.config import VisionConfig
from shared.model.rope import rotate

NORM_EPS = 1e-5
ROTARY_BASE = 10000.0

Grid = tuple[int, int, int]


class PositionEmbedding(nn.Module):
    """Learned table [64, 64, C], resampled bicubically to the grid, plus a fixed sinusoid per frame of a chunk."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        shape = (config.position_height, config.position_width, config.hidden_size)
        self.weight = nn.Parameter(torch.empty(shape), requires_grad=False)

    def forward(self, grid: Grid) -> Tensor:
        """[N, C] in the dtype of the table. A single frame gets no temporal term, also at the end of a video."""
        frames, height, width = grid
        table = self.weight
        if table.shape[:2] != (height, width):
            channels = table.float().permute(2, 0, 1).unsqueeze(0)  # [1, C, 64, 64]
            resampled = nn.functional.interpolate(channels, size=(height, width), mode="bicubic", align_corners=False)
            table = resampled.squeeze(0).permute(1, 2, 0).to(self.weight.dtype)
        space = table.flatten(0, 1)  # [h*w, C]
        if frames == 1:
            return space
        time = temporal(frames, space.shape[-1]).to(space)  # [T, C]
        return (space.unsqueeze(0) + time.unsqueeze(1)).flatten(0, 1)


def temporal(frames: int, size: int) -> Tensor:
    """[T, C] float32: sines then cosines of t * 10000^(-2k/C), arXiv 1706.03762 section 3.5."""
    speed = 1.0 / ROTARY_BASE ** (torch.arange(0, size, 2, dtype=torch.float32) / size)  # [C/2]
    angles = torch.outer(torch.arange(frames, dtype=torch.float32), speed)  # [T, C/2]
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def rotary_tables(grid: Grid, head_size: int) -> tuple[Tensor, Tensor]:
    """cos and sin [N, B/2] float32: pair 2i turns with the column, pair 2i+1 with the row, alike in every frame."""
    frames, height, width = grid
    speed = 1.0 / ROTARY_BASE ** (torch.arange(0, head_size, 4, dtype=torch.float32) / head_size)  # [B/4]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    by_column = columns.flatten().float().unsqueeze(-1) * speed  # [h*w, B/4]
    by_row = rows.flatten().float().unsqueeze(-1) * speed
    angles = torch.stack((by_column, by_row), dim=-1).flatten(1).repeat(frames, 1)  # [N, B/2]
    return angles.cos(), angles.sin()


class PatchEmbedding(nn.Module):
    """One linear map per patch, stored as a convolution, plus its position."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size)
        self.pos_emb = PositionEmbedding(config)

    def forward(self, patches: Tensor, grid: Grid) -> Tensor:
        embedded = nn.functional.linear(patches.flatten(1), self.proj.weight.flatten(1), self.proj.bias)
        return embedded + self.pos_emb(grid)  # [N, C]


class VisionMLP(nn.Module):
    """fc1(gelu(fc0(x))), with the tanh approximation of GELU."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.fc0 = nn.Linear(hidden, inner)
        self.fc1 = nn.Linear(inner, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc1(nn.functional.gelu(self.fc0(x), approximate="tanh"))


class VisionBlock(nn.Module):
    """h += wo(attention(rotate(wqkv(norm0 h)))); h += mlp(norm1 h). All patches of one item see each other."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.norm0 = nn.LayerNorm(size, eps=NORM_EPS)
        self.norm1 = nn.LayerNorm(size, eps=NORM_EPS)
        self.wqkv = nn.Linear(size, 3 * size)
        self.wo = nn.Linear(size, size)
        self.mlp = VisionMLP(size, config.intermediate_size)

    def forward(self, h: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        h = h + self.wo(self._attend(self.norm0(h), cos, sin))
        return h + self.mlp(self.norm1(h))

    def _attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = self.wqkv(x).view(len(x), 3, self.heads, -1).permute(1, 2, 0, 3)  # [A, N, B] each
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        heads = nn.functional.scaled_dot_product_attention(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0))
        return heads.squeeze(0).transpose(0, 1).flatten(1)  # [N, C]


class VisionEncoder(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(VisionBlock(config) for _ in range(config.num_hidden_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=NORM_EPS)


class VisionTower(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbedding(config)
        self.encoder = VisionEncoder(config)

    def forward(self, patches: Tensor, grid: Grid) -> Tensor:
        """[N, 3, 14, 14] to [h/2 * w/2, 4, C]."""
        cos, sin = (table.to(patches.device) for table in rotary_tables(grid, self._head_size))
        h = self.patch_embed(patches, grid)
        for block in self.encoder.blocks:
            h = block(h, cos, sin)
        return self._merge(self.encoder.final_layernorm(h), grid)

    @property
    def _head_size(self) -> int:
        return self.config.hidden_size // self.config.num_attention_heads

    def _merge(self, h: Tensor, grid: Grid) -> Tensor:
        """``sd2_tpool``: the mean over frames, then squares of 2x2 patches side by side, row-major."""
        frames, height, width = grid
        down, right = self.config.merge_height, self.config.merge_width
        squares = h.view(frames, height // down, down, width // right, right, -1).transpose(2, 3)
        return squares.mean(dim=0).flatten(0, 1).flatten(1, 2)
