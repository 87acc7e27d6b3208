"""From the vision tower to the text model: normalise each patch, join the four of a square, two linear layers.

Source: ``patchmerger`` of the released ``modeling_kimi_k25.py``, and the projector of Kimi-VL (arXiv 2504.07491,
section 2.1), which is the same function under other names; GELU is exact here (arXiv 1606.08415).
"""

from torch import Tensor, nn

from shared.model.config import TextConfig, VisionConfig


class Projector(nn.Module):
    def __init__(self, vision: VisionConfig, text: TextConfig) -> None:
        super().__init__()
        merged = vision.merged_size
        self.pre_norm = nn.LayerNorm(vision.hidden_size, eps=vision.projector_eps)
        self.proj = nn.Sequential(nn.Linear(merged, merged), nn.GELU(), nn.Linear(merged, text.hidden_size))

    def forward(self, merged: Tensor) -> Tensor:
        """[M, 4, C] merged patches to [M, D] embeddings."""
        return self.proj(self.pre_norm(merged).flatten(1))


class KimiVLProjector(nn.Module):
    def __init__(self, vision: VisionConfig, text: TextConfig) -> None:
        super().__init__()
        merged = vision.merged_size
        self.pre_norm = nn.LayerNorm(vision.hidden_size, eps=vision.projector_eps)
        self.linear_1 = nn.Linear(merged, merged)
        self.linear_2 = nn.Linear(merged, text.hidden_size)

    def forward(self, merged: Tensor) -> Tensor:
        """[M, 4, C] merged patches to [M, D] embeddings."""
        return self.linear_2(nn.functional.gelu(self.linear_1(self.pre_norm(merged).flatten(1))))
