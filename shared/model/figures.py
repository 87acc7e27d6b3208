"""The figures of a model that follow from its configuration alone: parameters, tensors, bytes, cache, context."""

import msgspec

from shared.model import layout
from shared.model.config import ModelConfig

CACHE_ELEMENT_BYTES = 2
"""The latent cache of a deployment is bfloat16."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    parameters_total: int
    parameters_active: int
    """Of the language model, per token: embedding and head included, tower and projector not."""
    tensor_count: int
    weight_bytes: int
    cache_bytes_per_token: int
    context_length: int


def figures(config: ModelConfig) -> Figures:
    text = config.text
    stored = list(layout.all_stored(config))
    latent = text.kv_lora_rank + text.qk_rope_head_dim
    return Figures(
        parameters_total=sum(entry.count for entry in layout.entries(config)),
        parameters_active=_active(config),
        tensor_count=len(stored),
        weight_bytes=sum(tensor.size_bytes for tensor in stored),
        cache_bytes_per_token=latent * text.num_hidden_layers * CACHE_ELEMENT_BYTES,
        context_length=text.max_position_embeddings,
    )


def _active(config: ModelConfig) -> int:
    text = config.text
    everything = sum(entry.count for entry in layout.entries(config) if entry.module.startswith(layout.TEXT))
    idle = text.n_routed_experts - text.num_experts_per_tok
    mixed = max(text.num_hidden_layers - text.first_k_dense_replace, 0)
    return everything - mixed * idle * 3 * text.hidden_size * text.moe_intermediate_size
