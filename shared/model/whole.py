"""A decoder layer as one operation of the kernels, where they have that, with the bits of ``decoder.DecoderLayer``.

Input: a layer whose weights are prepared. Output: what to call instead of its parts, or None.
"""

from typing import TYPE_CHECKING

from kernels import dispatch
from kernels.cpu.layer import WholeLayer
from kernels.layer import Layer
from kernels.weights import ExpertWeights
from shared.model.experts import MixtureOfExperts

if TYPE_CHECKING:
    from shared.model.decoder import DecoderLayer


def whole(layer: "DecoderLayer") -> WholeLayer | None:
    attention, mlp = layer.self_attn, layer.mlp
    if not (attention.is_prepared and mlp.is_prepared):
        return None
    if isinstance(mlp, MixtureOfExperts) and not mlp.is_complete:
        return None
    return dispatch.whole_layer(_described(layer))


def _described(layer: "DecoderLayer") -> Layer:
    attention, config, mlp = layer.self_attn, layer.self_attn.config, layer.mlp
    weights = attention.ready
    mixture = mlp if isinstance(mlp, MixtureOfExperts) else None
    shared: ExpertWeights | None = None
    if mixture is not None and mixture.shared_experts is not None:
        shared = mixture.shared_experts.ready
    return Layer(
        input_norm=layer.input_layernorm.weight,
        query_down=weights.query_down,
        query_norm=None if weights.query_down is None else attention.q_a_layernorm.weight,
        query=weights.query,
        latent=weights.latent,
        latent_norm=attention.kv_a_layernorm.weight,
        keys=weights.keys,
        values=weights.values,
        out=weights.out,
        inner_norm=layer.post_attention_layernorm.weight,
        router=None if mixture is None else mixture.gate.ready,
        bias=None if mixture is None else mixture.gate.get_buffer("e_score_correction_bias"),
        experts=mlp.ready,
        shared=shared,
        chosen=1 if mixture is None else config.num_experts_per_tok,
        normalise=config.norm_topk_prob,
        routed_scale=config.routed_scaling_factor,
        rope=config.qk_rope_head_dim,
        eps=config.rms_norm_eps,
        latent_eps=attention.kv_a_layernorm.eps,
        softmax_scale=attention.scale,
    )
