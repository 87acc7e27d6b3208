"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1) over a cache of latents.

Input: normalised hidden states [T, D] of consecutive positions and the layer's cache. Output: [T, D].
Letters: T tokens, D hidden size, H heads, N = qk_nope_head_dim, P = qk_rope_head_dim, V = v_head_dim,
R = kv_lora_rank, S keys of one cache block.
"""

import torch
from torch import Tensor, nn

from shared.model.cache import LatentCache
from shared.model.config import TextConfig
from shared.model.linear import AnyLinear, Linear
from shared.model.norm import RMSNorm
from shared.model.rope import rotate, softmax_scale


class SoftmaxSum:
    """A softmax-weighted sum, fed block by block (online softmax, arXiv 1805.02867), in float32."""

    def __init__(self) -> None:
        self.largest: Tensor | None = None  # [H, T, 1]
        self.total = self.sum = torch.empty(0)

    def add(self, scores: Tensor, values: Tensor) -> None:
        """scores [H, T, S] float32 with -inf where a key is hidden, values [H or 1, S, V]. Writes over ``scores``."""
        largest = scores.amax(-1, keepdim=True)
        if self.largest is not None:
            largest = torch.maximum(self.largest, largest)
        weights = scores.sub_(largest).exp_()  # [H, T, S]
        total, part = weights.sum(-1, keepdim=True), (weights.to(values.dtype) @ values).float()
        if self.largest is None:
            self.total, self.sum = total, part
        else:
            shrink = torch.exp(self.largest - largest)
            self.total, self.sum = self.total * shrink + total, self.sum * shrink + part
        self.largest = largest

    def result(self) -> Tensor:
        return self.sum / self.total  # [H, T, V]


class LatentAttention(nn.Module):
    def __init__(self, config: TextConfig, latent_eps: float) -> None:
        super().__init__()
        self.config, self.scale = config, softmax_scale(config)
        heads, rank = config.num_attention_heads, config.kv_lora_rank
        if config.q_lora_rank is None:
            self.q_proj: AnyLinear = Linear(config.hidden_size, heads * config.qk_head_dim)
        else:
            self.q_a_proj: AnyLinear = Linear(config.hidden_size, config.q_lora_rank)
            self.q_a_layernorm = RMSNorm(config.q_lora_rank, latent_eps)
            self.q_b_proj: AnyLinear = Linear(config.q_lora_rank, heads * config.qk_head_dim)
        self.kv_a_proj_with_mqa: AnyLinear = Linear(config.hidden_size, rank + config.qk_rope_head_dim)
        self.kv_a_layernorm = RMSNorm(rank, latent_eps)
        self.kv_b_proj: AnyLinear = Linear(rank, heads * (config.qk_nope_head_dim + config.v_head_dim))
        self.o_proj: AnyLinear = Linear(heads * config.v_head_dim, config.hidden_size)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: LatentCache, *, absorbed: bool) -> Tensor:
        """x [T, D] at positions cache.length and on; cos and sin [T, P/2]. The two forms differ in rounding only:
        absorbed attends in the latent space (less work for one token), plain expands keys and values per head."""
        first = cache.length
        cache.append(self._latents(x, cos, sin))
        nope, rope = self._queries(x, cos, sin)  # [H, T, N], [H, T, P]
        attend = self._attend_absorbed if absorbed else self._attend_plain
        heads = attend(nope, rope, first, cache)  # [H, T, V]
        return self.o_proj(heads.transpose(0, 1).flatten(1).to(x.dtype))

    def _latents(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """What is cached: normalised latent and rotated key part shared by all heads, [T, R + P]."""
        latent, key = self.kv_a_proj_with_mqa(x).split([self.config.kv_lora_rank, self.config.qk_rope_head_dim], dim=-1)
        return torch.cat((self.kv_a_layernorm(latent), rotate(key, cos, sin)), dim=-1)

    def _queries(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        config = self.config
        q = self.q_proj(x) if config.q_lora_rank is None else self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x)))
        q = q.view(len(x), config.num_attention_heads, config.qk_head_dim).transpose(0, 1)  # [H, T, N + P]
        nope, rope = q.split([config.qk_nope_head_dim, config.qk_rope_head_dim], dim=-1)
        return nope, rotate(rope, cos, sin)

    def _expansion(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """kv_b_proj per head: for keys [H, N, R], for values [H, V, R] (nope rows first, then value rows)."""
        config = self.config
        matrix = self.kv_b_proj.matrix(dtype).view(config.num_attention_heads, -1, config.kv_lora_rank)
        keys, values = matrix.split([config.qk_nope_head_dim, config.v_head_dim], dim=1)
        return keys, values

    def _attend_plain(self, nope: Tensor, rope: Tensor, first: int, cache: LatentCache) -> Tensor:
        expand_keys, expand_values = self._expansion(nope.dtype)
        softmax = SoftmaxSum()
        for start, block in cache.blocks():
            latent, key = block.split([self.config.kv_lora_rank, self.config.qk_rope_head_dim], dim=-1)
            keys = latent @ expand_keys.transpose(1, 2)  # [H, S, N]
            scores = (nope @ keys.transpose(1, 2)).add_(rope @ key.T).float().mul_(self.scale)  # [H, T, S]
            softmax.add(causal(scores, first, start), latent @ expand_values.transpose(1, 2))
        return softmax.result()

    def _attend_absorbed(self, nope: Tensor, rope: Tensor, first: int, cache: LatentCache) -> Tensor:
        expand_keys, expand_values = self._expansion(nope.dtype)
        query = torch.cat((nope @ expand_keys, rope), dim=-1)  # [H, T, R + P]
        softmax = SoftmaxSum()
        for start, block in cache.blocks():
            scores = (query @ block.T).float().mul_(self.scale)  # [H, T, S]
            softmax.add(causal(scores, first, start), block[:, : self.config.kv_lora_rank].unsqueeze(0))
        return softmax.result().to(nope.dtype) @ expand_values.transpose(1, 2)


def causal(scores: Tensor, first: int, start: int) -> Tensor:
    """Hide keys behind their query, in place: scores [H, T, S] of queries first, first+1, … and keys start and on."""
    queries, keys = scores.shape[-2:]
    if start + keys <= first + 1:
        return scores
    visible = torch.ones(queries, keys, dtype=torch.bool, device=scores.device).tril(first - start)
    return scores.masked_fill_(~visible, float("-inf"))
