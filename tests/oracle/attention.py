"""Latent attention in its plain form: keys and values of every head, one softmax per query, stock torch.

Input: a module that was not prepared, normalised hidden states [T, D] of positions 0 to T-1. Output: [T, D]. Source:
DeepSeek-V2, arXiv 2405.04434, section 2.1. The network serves the absorbed form; the two differ in rounding only.
"""

import torch
from torch import Tensor

from shared.model.attention import LatentAttention
from shared.model.rope import rotate


def plain_attention(module: LatentAttention, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    config, count = module.config, len(x)
    if config.q_lora_rank is None:
        q = x @ module.q_proj.plain.T
    else:
        q = module.q_a_layernorm(x @ module.q_a_proj.plain.T) @ module.q_b_proj.plain.T
    q = q.view(count, config.num_attention_heads, -1).transpose(0, 1)  # [H, T, N + P]
    nope, rope = q.split([config.qk_nope_head_dim, config.qk_rope_head_dim], dim=-1)
    both = x @ module.kv_a_proj_with_mqa.plain.T
    latent, key = both.split([config.kv_lora_rank, config.qk_rope_head_dim], dim=-1)
    expand_keys, expand_values = module.expansion()  # [H, N, R], [H, V, R]
    latent = module.kv_a_layernorm(latent)
    keys, values = latent @ expand_keys.transpose(1, 2), latent @ expand_values.transpose(1, 2)  # [H, T, N or V]
    scores = (nope @ keys.transpose(1, 2) + rotate(rope, cos, sin) @ rotate(key, cos, sin).T) * module.scale
    hidden = torch.ones(count, count, dtype=torch.bool).triu(1)
    heads = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ values  # [H, T, V]
    return heads.transpose(0, 1).flatten(1) @ module.o_proj.plain.T
