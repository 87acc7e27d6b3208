"""What the parts of a model weigh, from the layout: layers without experts, each expert, and both ends.

Input: ``ModelConfig``. Output: ``Burden``, whose parts sum to the bytes of all tensors on disk.
"""

import re
from dataclasses import dataclass

from shared.model import layout
from shared.model.config import ModelConfig

_LAYER = re.compile(r"language_model\.model\.layers\.(\d+)\.(?:mlp\.experts\.(\d+)\.)?")


@dataclass(frozen=True)
class Burden:
    """All in bytes."""

    layers: tuple[int, ...]
    """Attention, norms, router, shared and dense blocks of each layer."""
    experts: tuple[int, ...]
    """Routed expert e, over all layers. Empty for a model whose layers are all dense."""
    embedding: int
    head: int
    """With the final norm."""
    media: int
    """Vision tower and projector."""

    @property
    def total(self) -> int:
        return sum(self.layers) + sum(self.experts) + self.embedding + self.head + self.media

    @property
    def expert(self) -> int:
        """The heaviest expert, over all layers."""
        return max(self.experts, default=0)


def burden(config: ModelConfig) -> Burden:
    text = config.text
    layers, experts = [0] * text.num_hidden_layers, [0] * text.n_routed_experts
    ends = {"embedding": 0, "head": 0, "media": 0}
    for tensor in layout.all_stored(config):
        if found := _LAYER.match(tensor.name):
            if found[2] is not None:
                experts[int(found[2])] += tensor.size_bytes
            else:
                layers[int(found[1])] += tensor.size_bytes
        else:
            ends[_end(tensor.name)] += tensor.size_bytes
    return Burden(layers=tuple(layers), experts=tuple(experts) if any(experts) else (), **ends)


def _end(name: str) -> str:
    if not name.startswith(layout.TEXT):
        return "media"
    return "embedding" if ".embed_tokens." in name else "head"
