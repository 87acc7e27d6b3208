"""The whole model: text, vision tower and projector under the released names, and embeddings with media in place."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from shared.model.config import ModelConfig
from shared.model.decoder import TextModel
from shared.model.linear import held_tensors, prepare
from shared.model.projector import KimiVLProjector, Projector
from shared.model.threads import one_thread
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

        Pixels are normalised as the released preprocessor does: (x / 255 - 0.5) / 0.5. An item is computed alone and by
        one thread: torch's products and attention may round otherwise with another number of threads.
        """
        text = self.language_model
        with one_thread():
            pixels = (patches.to(text.device).float() / 255 - 0.5) * 2
            return self.projector(self.vision_tower(pixels.to(text.dtype), grid))

    def embed(self, ids: Tensor, media: Iterable[tuple[int, Tensor]]) -> Tensor:
        """Embeddings [T, D] of the rows of a forward batch with ids [T]. Each of ``media`` is (first row, [M, D]): its
        rows replace those of the placeholders (``ForwardBatch.rows_of``)."""
        embedded = self.language_model.embed(ids)
        for row, rows in media:
            embedded[row : row + len(rows)] = rows
        return embedded

    def prepare(self) -> None:
        """Lay out every weight that is here for the kernels; the released form is dropped."""
        for layer in self.language_model.layers:
            prepare(layer)
        prepare(self.language_model.lm_head)
        self.language_model.join()

    def held_tensors(self) -> Iterator[Tensor]:
        """Every weight in memory, in whatever form."""
        return held_tensors(self)


def build(config: ModelConfig, latent_eps: float | None = None) -> Network:
    """The network without weights: every parameter on the meta device."""
    with torch.device("meta"):
        return Network(config, latent_eps).eval().requires_grad_(False)
