"""The weights of a checkpoint one by one, widened: what peers that cannot read the released layout are given.

Input: a checkpoint directory. Output: (name, float32 tensor) pairs; INT4 is dequantised exactly.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from kernels.reference.int4 import dequantize_int4_ref
from shared.model import config as configuration
from shared.model.layout import TEXT, entries
from shared.model.shards import Shards


def text_weights(directory: Path) -> Iterator[tuple[str, Tensor]]:
    """Of the language model, named without its prefix."""
    with Shards(directory) as shards:
        for entry in entries(configuration.load(directory)):
            if not entry.module.startswith(TEXT):
                continue
            name = entry.name.removeprefix(TEXT)
            packed = f"{entry.module}.weight_packed"
            if packed in shards:
                scale = shards.tensor(f"{entry.module}.weight_scale")
                yield name, dequantize_int4_ref(shards.tensor(packed), scale, entry.shape[1], torch.float32)
            else:
                yield name, shards.tensor(entry.name).float()
