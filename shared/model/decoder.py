"""The text model: embeddings, pre-norm decoder layers, final norm, head (DeepSeek-V3 layout, arXiv 2412.19437).

Input: token ids or hidden states of consecutive positions and the caches of a sequence. Output: hidden states, logits.
Letters: T tokens, D hidden size, W vocabulary. Module names are the released tensor names.
"""

import torch
from torch import Tensor, nn

from shared.model import rope
from shared.model.attention import LatentAttention
from shared.model.cache import LatentCache
from shared.model.config import TextConfig
from shared.model.experts import MixtureOfExperts, SwiGLU
from shared.model.linear import AnyLinear, Linear
from shared.model.norm import RMSNorm


class DecoderLayer(nn.Module):
    """h += attention(norm(h)); h += mlp(norm(h))."""

    def __init__(self, config: TextConfig, layer: int, latent_eps: float) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = LatentAttention(config, latent_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        dense = config.is_dense(layer)
        self.mlp = SwiGLU(config.hidden_size, config.intermediate_size) if dense else MixtureOfExperts(config)

    def forward(self, h: Tensor, cos: Tensor, sin: Tensor, cache: LatentCache, *, absorbed: bool) -> Tensor:
        h = h + self.self_attn(self.input_layernorm(h), cos, sin, cache, absorbed=absorbed)
        return h + self.mlp(self.post_attention_layernorm(h))


class Decoder(nn.Module):
    """``language_model.model``: everything but the head."""

    def __init__(self, config: TextConfig, latent_eps: float) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            DecoderLayer(config, layer, latent_eps) for layer in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class TextModel(nn.Module):
    """``language_model``. ``latent_eps`` is the epsilon of the two latent norms: serving engines take rms_norm_eps
    (the default here), the code beside the released weights takes 1e-6."""

    def __init__(self, config: TextConfig, latent_eps: float | None = None) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config, config.rms_norm_eps if latent_eps is None else latent_eps)
        self.lm_head: AnyLinear = Linear(config.hidden_size, config.vocab_size)
        self._inverse: Tensor | None = None

    @property
    def dtype(self) -> torch.dtype:
        return self._held_weight.dtype

    @property
    def device(self) -> torch.device:
        return self._held_weight.device

    @property
    def _held_weight(self) -> Tensor:
        """Any weight that is here: a process may hold a part of the model, the rest is on the meta device."""
        return next((weight for weight in self.parameters() if not weight.is_meta), self.model.embed_tokens.weight)

    def new_caches(self) -> list[LatentCache]:
        """Empty caches of one sequence, one per layer."""
        width = self.config.kv_lora_rank + self.config.qk_rope_head_dim
        return [LatentCache(width, self.dtype, self.device) for _ in self.model.layers]

    def embed(self, ids: Tensor) -> Tensor:
        """[T] int64 to [T, D]."""
        return self.model.embed_tokens(ids)

    def forward(self, h: Tensor, caches: list[LatentCache], *, absorbed: bool = False, offset: int = 0) -> Tensor:
        """[T, D] embeddings at positions caches[0].length and on, to normalised hidden states [T, D].

        ``offset`` is added to every position of the rotary tables (what is far away can be tested without its past).
        """
        cos, sin = self._tables(offset + caches[0].length, len(h))
        for layer, cache in zip(self.model.layers, caches, strict=True):
            h = layer(h, cos, sin, cache, absorbed=absorbed)
        return self.model.norm(h)

    def logits(self, h: Tensor) -> Tensor:
        """[T, D] hidden states to [T, W] float32."""
        return self.lm_head(h).float()

    def _tables(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        if self._inverse is None:
            self._inverse = rope.frequencies(self.config).to(self.device)
        positions = torch.arange(first, first + count, device=self.device)
        return rope.tables(self._inverse, positions, rope.table_scale(self.config))
