"""The latent cache: pages of latents of the layers that this process holds, shared by all its sequences.

Input: configuration, how many layers and pages. Output: ``PagePool``. Which page belongs to whom, and when it is free,
is the engine's business; nothing here counts references.
"""

import torch

from shared.model.config import TextConfig

PAGE = 64
"""Positions per page."""


def latent_width(config: TextConfig) -> int:
    """Numbers per position and layer: the normalised latent and the rotated key part that all heads share."""
    return config.kv_lora_rank + config.qk_rope_head_dim


def page_bytes(config: TextConfig, layers: int, dtype: torch.dtype) -> int:
    """Bytes of one page over all ``layers``."""
    return PAGE * latent_width(config) * dtype.itemsize * layers


class PagePool:
    """``latents`` [layers, pages, PAGE, R + P]. Reserved at once; the operating system hands memory over page by page
    as it is written."""

    def __init__(
        self, config: TextConfig, layers: int, pages: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        if layers < 1 or pages < 1:
            raise ValueError(f"a pool of {layers} layers and {pages} pages")
        self.pages = pages
        self.page_bytes = page_bytes(config, layers, dtype)
        self.latents = torch.empty(layers, pages, PAGE, latent_width(config), dtype=dtype, device=device)

    @property
    def size_bytes(self) -> int:
        return self.pages * self.page_bytes
