"""From the vision tower to the text model: normalise each patch, join the four of a square, two linear layers.

Source: ``patchmerger`` of the released ``modeling_kimi_k25.py``; GELU is exact here (arXiv 1606.08415).
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
