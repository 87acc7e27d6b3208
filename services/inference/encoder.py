"""The encoder role: the vision tower with a bounded cache of embeddings, keyed by the patches they come from.

Input: a media span; its patches come from the blob store. Output: embeddings [M, D]. It must not know requests or text.
"""

from collections import OrderedDict
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from schemas.blobs import BlobRef
from schemas.generation import MediaSpan
from services.inference.compute import ComputeThread
from shared.model.network import Network


class Patches(Protocol):
    """The part of the blob store that is used here."""

    async def get(self, ref: BlobRef) -> bytes: ...


class Encoder:
    def __init__(self, network: Network, compute: ComputeThread, patches: Patches, cache_bytes: int) -> None:
        self._network, self._compute, self._patches, self._limit = network, compute, patches, cache_bytes
        self._cache: OrderedDict[tuple[str, tuple[int, int, int]], Tensor] = OrderedDict()
        self.bytes = 0
        """Of the embeddings in the cache."""

    async def rows(self, span: MediaSpan) -> Tensor:
        """Embeddings [M, D]. Raises NotFound without patches, Internal when they do not fill the grid."""
        key = (span.patches.key, span.grid)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        patches = await self._patches.get(span.patches)
        rows = await self._compute.run(partial(self._forward, span, patches))
        self._keep(key, rows)
        return rows

    def _forward(self, span: MediaSpan, patches: bytes) -> Tensor:
        vision = self._network.config.vision
        assert vision is not None, "admission refuses media for a model without a vision tower"
        shape = (-1, 3, vision.patch_size, vision.patch_size)
        return self._network.encode(torch.frombuffer(bytearray(patches), dtype=torch.uint8).view(shape), span.grid)

    def _keep(self, key: tuple[str, tuple[int, int, int]], rows: Tensor) -> None:
        if key in self._cache or rows.nbytes > self._limit:
            return
        self._cache[key] = rows
        self.bytes += rows.nbytes
        while self.bytes > self._limit:
            _, oldest = self._cache.popitem(last=False)
            self.bytes -= oldest.nbytes
