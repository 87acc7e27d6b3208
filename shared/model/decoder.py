"""The text model: embeddings, pre-norm decoder layers, final norm, head (DeepSeek-V3 layout, arXiv 2412.19437).

Input: token ids or hidden states of a forward batch, and the pool of pages. Output: hidden states, logits. A row of
either depends on that row and its own context only, bit for bit, whatever else is in the batch.
Letters: T rows, D hidden size, W vocabulary. Module names are the released tensor names.
"""

import torch
from torch import Tensor, nn

from kernels.cpu.layer import WholeLayer, WholeLayers
from kernels.layer import Rows
from shared.model.attention import LatentAttention
from shared.model.batch import ForwardBatch
from shared.model.config import TextConfig
from shared.model.experts import MixtureOfExperts, SwiGLU
from shared.model.linear import AnyLinear, Linear
from shared.model.norm import RMSNorm
from shared.model.pages import PagePool
from shared.model.rope import RotaryTable
from shared.model.whole import whole


class DecoderLayer(nn.Module):
    """h += attention(norm(h)); h += mlp(norm(h))."""

    def __init__(self, config: TextConfig, layer: int, latent_eps: float) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = LatentAttention(config, latent_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        dense = config.is_dense(layer)
        self.mlp = SwiGLU(config.hidden_size, config.intermediate_size) if dense else MixtureOfExperts(config)
        self.whole: WholeLayer | None = None

    def forward(self, h: Tensor, cos: Tensor, sin: Tensor, batch: ForwardBatch, latents: Tensor) -> Tensor:
        if self.whole is not None:
            return self.whole(h, _rows(cos, sin, batch), latents)
        h = h + self.self_attn(self.input_layernorm(h), cos, sin, batch, latents)
        return h + self.mlp(self.post_attention_layernorm(h))

    def join(self) -> None:
        """From now on in one call, where the kernels have that. The weights are prepared."""
        self.whole = whole(self)

    def part(self) -> None:
        """Operation by operation again."""
        self.whole = None

    @property
    def is_whole(self) -> bool:
        return self.whole is not None

    @property
    def is_here(self) -> bool:
        """A process may hold some layers only; the others stay on the meta device."""
        return not self.input_layernorm.weight.is_meta


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
        self._rotary: RotaryTable | None = None
        self._wholes: WholeLayers | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Of the computation: norms have it, while matrices keep the type that they are stored in."""
        return self._a_norm.dtype

    @property
    def device(self) -> torch.device:
        return self._a_norm.device

    @property
    def layers(self) -> list[DecoderLayer]:
        """Those that this process holds."""
        return [layer for layer in self.model.layers if isinstance(layer, DecoderLayer) and layer.is_here]

    def join(self) -> None:
        """All layers in one call, where the kernels have that. The weights are prepared."""
        for layer in self.layers:
            layer.join()
        wholes = [layer.whole for layer in self.layers if layer.whole is not None]
        last = self.model.norm
        self._wholes = None
        if wholes and len(wholes) == len(self.layers):
            self._wholes = WholeLayers(wholes, None if last.weight.is_meta else last.weight, last.eps)

    def part(self) -> None:
        """Operation by operation again."""
        self._wholes = None
        for layer in self.layers:
            layer.part()

    def new_pool(self, pages: int) -> PagePool:
        """Pages for the layers that are here."""
        return PagePool(self.config, len(self.layers), pages, self.dtype, self.device)

    def embed(self, ids: Tensor) -> Tensor:
        """[T] int64 to [T, D]."""
        return self.model.embed_tokens.weight.index_select(0, ids).to(self.dtype)

    def forward(self, h: Tensor, batch: ForwardBatch, pool: PagePool, *, offset: int = 0) -> Tensor:
        """[T, D] embeddings to hidden states [T, D], normalised where the final norm is here.

        The latents of the rows are written to their pages. ``offset`` is added to every position of the rotary tables
        (what is far away can be tested without its past). Raises ValueError for a page beyond the pool.
        """
        if len(h) != batch.rows or batch.pages_end > pool.pages:
            raise ValueError(f"{len(h)} rows for {batch.rows}, pages to {batch.pages_end} of {pool.pages}")
        cos, sin = self.rotary(batch.positions + offset if offset else batch.positions)
        if self._wholes is not None:
            return self._wholes(h, _rows(cos, sin, batch), pool.latents)
        for layer, latents in zip(self.layers, pool.latents, strict=True):
            h = layer(h, cos, sin, batch, latents)
        return h if self.model.norm.weight.is_meta else self.model.norm(h)

    def rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, [T, P/2] float32, of positions [T]."""
        if self._rotary is None:
            self._rotary = RotaryTable(self.config, self.device)
        return self._rotary.rows(positions)

    def logits(self, h: Tensor) -> Tensor:
        """[T, D] hidden states to [T, W] float32."""
        return self.lm_head(h, out=torch.float32)

    @property
    def _a_norm(self) -> Tensor:
        """The last norm where it is here: this is asked in every step."""
        if not self.model.norm.weight.is_meta:
            return self.model.norm.weight
        return next((layer.input_layernorm.weight for layer in self.layers), self.model.embed_tokens.weight)


def _rows(cos: Tensor, sin: Tensor, batch: ForwardBatch) -> Rows:
    return Rows(cos, sin, batch.slots, batch.tables, batch.owners, batch.positions)
