"""The encoder role: the vision tower with a bounded cache of embeddings, keyed by the patches they come from.

Input: a media span and its patches. Output: embeddings [M, D]. It must not know requests or text.
"""

from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor

from schemas.generation import MediaSpan
from services.inference.compute import ComputeThread
from shared.errors import BadInput
from shared.model.config import VisionConfig
from shared.model.network import Network

MAX_SIDE = 512
"""Patches per side that the released preprocessor allows."""


class Encoder:
    def __init__(self, network: Network, compute: ComputeThread, cache_bytes: int) -> None:
        self._network, self._compute, self._limit = network, compute, cache_bytes
        self._cache: OrderedDict[tuple[str, tuple[int, int, int]], Tensor] = OrderedDict()
        self._held = 0

    def cached(self, span: MediaSpan) -> Tensor | None:
        """The embeddings if they are at hand; using them keeps them longer."""
        rows = self._cache.get((span.patches.key, span.grid))
        if rows is not None:
            self._cache.move_to_end((span.patches.key, span.grid))
        return rows

    async def encode(self, span: MediaSpan, patches: bytes) -> Tensor:
        """Embeddings [M, D] of uint8 patches [t*h*w, 3, p, p]. Raises BadInput when they do not fill the grid."""
        rows = await self._compute.run(partial(self._forward, span, patches))
        self._keep((span.patches.key, span.grid), rows)
        return rows

    def _forward(self, span: MediaSpan, patches: bytes) -> Tensor:
        vision = self._network.config.vision
        assert vision is not None, "check_span refuses media for a model without a vision tower"
        shape = (-1, 3, vision.patch_size, vision.patch_size)
        return self._network.encode(torch.frombuffer(bytearray(patches), dtype=torch.uint8).view(shape), span.grid)

    def _keep(self, key: tuple[str, tuple[int, int, int]], rows: Tensor) -> None:
        if key in self._cache or rows.nbytes > self._limit:
            return
        self._cache[key] = rows
        self._held += rows.nbytes
        while self._held > self._limit:
            _, oldest = self._cache.popitem(last=False)
            self._held -= oldest.nbytes


def check_span(span: MediaSpan, vision: VisionConfig | None) -> None:
    """Raise BadInput when the grid, the number of tokens or the size of the patches do not fit each other."""
    if vision is None:
        raise refusal("this model takes no media")
    frames, height, width = span.grid
    if frames > 1 == vision.position_time:
        raise refusal("this model takes images; a video's chunk of several frames is beyond its vision tower")
    if not (1 <= frames <= vision.position_time and 0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise refusal(f"media grid {span.grid} is out of bounds")
    if height % vision.merge_height or width % vision.merge_width:
        raise refusal(f"media grid {span.grid} does not divide into squares of merged patches")
    tokens = height * width // (vision.merge_height * vision.merge_width)
    if span.tokens != tokens:
        raise refusal(f"media grid {span.grid} is {tokens} tokens, not {span.tokens}")
    size = frames * height * width * 3 * vision.patch_size**2
    if span.patches.size_bytes != size:
        raise refusal(f"media grid {span.grid} wants {size} bytes of patches, not {span.patches.size_bytes}")


def refusal(message: str) -> BadInput:
    return BadInput("generation.bad_media", message, param="media")
