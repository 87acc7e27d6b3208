"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1) over pages of latents, absorbed.

Input: normalised hidden states [T, D] of a forward batch and the layer's pages. Output: [T, D]. Queries are taken into
the latent space instead of expanding the cache into keys and values: always, so that one token and a long prompt are
computed alike.
Letters: T rows, D hidden size, H heads, N = qk_nope_head_dim, P = qk_rope_head_dim, V = v_head_dim, R = kv_lora_rank.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import dispatch
from kernels.weights import Done, HeadWeights, LinearWeight, keep
from shared.model.batch import ForwardBatch
from shared.model.config import TextConfig
from shared.model.linear import AnyLinear, Linear, Prepared
from shared.model.norm import RMSNorm
from shared.model.rope import softmax_scale


@dataclass(frozen=True)
class AttentionWeights:
    """Both halves of ``kv_b_proj`` are kept per head: ``keys`` [H, R, N] takes queries into the latent space,
    ``values`` [H, V, R] takes what was attended to out of it."""

    query_down: LinearWeight | None
    query: LinearWeight
    latent: LinearWeight
    keys: HeadWeights
    values: HeadWeights
    out: LinearWeight


class LatentAttention(Prepared[AttentionWeights]):
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

    def lay_out(self, done: Done = keep) -> AttentionWeights:
        direct = self.config.q_lora_rank is None
        keys, values = self.expansion()
        return AttentionWeights(
            query_down=None if direct else self.q_a_proj.lay_out(done),
            query=self.q_proj.lay_out(done) if direct else self.q_b_proj.lay_out(done),
            latent=self.kv_a_proj_with_mqa.lay_out(done),
            keys=dispatch.prepare_heads(keys.transpose(1, 2).contiguous()),
            values=dispatch.prepare_heads(values.contiguous()),
            out=self.o_proj.lay_out(done),
        )

    def expansion(self) -> tuple[Tensor, Tensor]:
        """kv_b_proj per head, before ``prepare``: for keys [H, N, R], for values [H, V, R]."""
        config = self.config
        matrix = self.kv_b_proj.plain.view(config.num_attention_heads, -1, config.kv_lora_rank)
        keys, values = matrix.split([config.qk_nope_head_dim, config.v_head_dim], dim=1)
        return keys, values

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, batch: ForwardBatch, latents: Tensor) -> Tensor:
        """x [T, D]; cos and sin [T, P/2] of the rows; ``latents`` [pages, PAGE, R + P], written at the rows' slots."""
        weights, rank = self.ready, self.config.kv_lora_rank
        latents.flatten(0, 1).index_copy_(0, batch.slots, self._latents(x, cos, sin, weights))
        query = self._queries(x, cos, sin, weights)
        attended = dispatch.latent_attention(
            query, latents, batch.tables, batch.owners, batch.positions, self.scale, rank
        )  # [T, H, R]
        return dispatch.linear(dispatch.linear_heads(attended, weights.values).flatten(1), weights.out)

    def _latents(self, x: Tensor, cos: Tensor, sin: Tensor, weights: AttentionWeights) -> Tensor:
        """What is cached: normalised latent and rotated key part shared by all heads, [T, R + P]."""
        both = dispatch.linear(x, weights.latent)
        latent, key = both.split([self.config.kv_lora_rank, self.config.qk_rope_head_dim], dim=-1)
        return torch.cat((self.kv_a_layernorm(latent), dispatch.rotate(key, cos, sin)), dim=-1)

    def _queries(self, x: Tensor, cos: Tensor, sin: Tensor, weights: AttentionWeights) -> Tensor:
        """[T, H, R + P]: the part without position in the latent space, and the rotated part."""
        config = self.config
        if weights.query_down is not None:
            x = self.q_a_layernorm(dispatch.linear(x, weights.query_down))
        q = dispatch.linear(x, weights.query).view(len(x), config.num_attention_heads, config.qk_head_dim)
        nope, rope = q.split([config.qk_nope_head_dim, config.qk_rope_head_dim], dim=-1)
        return torch.cat((dispatch.linear_heads(nope, weights.keys), dispatch.rotate(rope, cos, sin)), dim=-1)
