"""Which weights of a model one process holds: all of them, or some layers, some experts, with or without the ends.

Input: an ``Entry`` of the layout. Output: whether it is held. Pure; knows nothing of files or devices.
"""

import re
from dataclasses import dataclass

from shared.errors import BadInput
from shared.model.config import TextConfig
from shared.model.layout import TEXT, Entry

LAYER = re.compile(r"model\.layers\.(\d+)\.(?:mlp\.experts\.(\d+)\.)?")


@dataclass(frozen=True)
class Part:
    """By default everything. A layer outside ``experts`` still has its attention, router and shared expert."""

    layers: range | None = None
    """Decoder layers; None: all."""
    experts: range | None = None
    """Routed experts of those layers; None: all."""
    embeddings: bool = True
    head: bool = True
    """The final norm and ``lm_head``."""
    vision: bool = True
    """The tower and its projector."""

    def check(self, config: TextConfig) -> None:
        """Raise BadInput when layers or experts are empty or beyond those of the model."""
        for name, chosen, count in (
            ("layers", self.layers, config.num_hidden_layers),
            ("experts", self.experts, config.n_routed_experts),
        ):
            if chosen is not None and not (chosen and min(chosen) >= 0 and max(chosen) < count):
                raise BadInput("checkpoint.bad_part", f"{name} {chosen} are not among the {count} of this model")

    def holds(self, entry: Entry) -> bool:
        if not entry.module.startswith(TEXT):
            return self.vision
        name = entry.name.removeprefix(TEXT)
        match = LAYER.match(name)
        if match is None:
            return self.embeddings if name.startswith("model.embed_tokens") else self.head
        layer, expert = int(match[1]), match[2]
        return _among(layer, self.layers) and (expert is None or _among(int(expert), self.experts))


EVERYTHING = Part()


def _among(number: int, chosen: range | None) -> bool:
    return chosen is None or number in chosen
