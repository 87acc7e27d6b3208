"""The whole model: text, vision tower and projector under the released names, and embeddings with media in place."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.model.config import ModelConfig
from shared.model.decoder import TextModel
from shared.model.projector import KimiVLProjector, Projector
from shared.model.vision import Grid, VisionTower


class Network(nn.Module):
    """Built on the meta device, filled by ``checkpoint.load_network``."""

    def __init__(self, config: ModelConfig, latent_eps: float | None = None) -> None:
        super().__init__()
        self.config = config
        self.language_model = TextModel(config.text, latent_eps)
        if config.vision is not None:
            self.vision_tower = VisionTower(config.vision)
            if config.family == "kimi_vl":
                self.multi_modal_projector = KimiVLProjector(config.vision, config.text)
            else:
                self.mm_projector = Projector(config.vision, config.text)

    @property
    def projector(self) -> nn.Module:
        """Under whichever name the family has it."""
        return self.multi_modal_projector if self.config.family == "kimi_vl" else self.mm_projector

    def encode(self, patches: Tensor, grid: Grid) -> Tensor:
        """uint8 patches [t*h*w, 3, 14, 14] of one item to embeddings [h/2 * w/2, D].

        Pixels are normalised as the released preprocessor does: (x / 255 - 0.5) / 0.5.
        """
        text = self.language_model
        pixels = (patches.to(text.device).float() / 255 - 0.5) * 2
        return self.projector(self.vision_tower(pixels.to(text.dtype), grid))

    def embed(self, ids: Tensor, first: int, media: Sequence[tuple[int, Tensor]]) -> Tensor:
        """Embeddings [T, D] of the ids [T] at positions first and on. Each of ``media`` is (position, [M, D]): its
        rows replace those of the placeholders; spans may reach beyond the slice on either side."""
        embedded = self.language_model.embed(ids)
        end = first + len(ids)
        for position, rows in media:
            low, high = max(position, first), min(position + len(rows), end)
            if low < high:
                embedded[low - first : high - first] = rows[low - position : high - position]
        return embedded


def build(config: ModelConfig, latent_eps: float | None = None) -> Network:
    """The network without weights: every parameter on the meta device."""
    with torch.device("meta"):
        return Network(config, latent_eps).eval().requires_grad_(False)
