"""The text model of a checkpoint as a GGUF file for llama.cpp: architecture ``deepseek2``, matrices in Q4_0.

Input: checkpoint directory. Output: a file. Names and shapes are those of llama.cpp's own conversion of DeepSeek-V3
(``convert_hf_to_gguf.py``, class DeepseekV2Model): experts stacked, kv_b split per head, keys transposed.
"""

from collections import defaultdict
from pathlib import Path

import gguf  # pyright: ignore[reportMissingImports]
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from services.inference.bench.released_weights import text_weights
from shared.model import config as configuration
from shared.model.config import TextConfig

SIGMOID = 2
"""``expert_gating_func``."""

ENDS = {"model.embed_tokens.weight": "token_embd", "model.norm.weight": "output_norm", "lm_head.weight": "output"}
LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.o_proj": "attn_output",
    "mlp.gate": "ffn_gate_inp",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
}


def write(directory: Path, out: Path) -> None:
    """Write ``out`` whole or not at all."""
    config = configuration.load(directory).text
    partial = out.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "deepseek2", use_temp_file=False)
    _metadata(writer, config)
    stacks: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    for name, weight in text_weights(directory):
        _add(writer, config, name, weight, stacks)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.rename(out)


def _metadata(writer: gguf.GGUFWriter, config: TextConfig) -> None:
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.qk_rope_head_dim)
    writer.add_key_length(config.kv_lora_rank + config.qk_rope_head_dim)
    writer.add_value_length(config.kv_lora_rank)
    writer.add_key_length_mla(config.qk_head_dim)
    writer.add_value_length_mla(config.v_head_dim)
    writer.add_kv_lora_rank(config.kv_lora_rank)
    if config.q_lora_rank is not None:
        writer.add_q_lora_rank(config.q_lora_rank)
    _expert_metadata(writer, config)
    _yarn_metadata(writer, config)


def _expert_metadata(writer: gguf.GGUFWriter, config: TextConfig) -> None:
    writer.add_leading_dense_block_count(config.first_k_dense_replace)
    writer.add_expert_count(config.n_routed_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    writer.add_expert_shared_count(config.n_shared_experts)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_expert_weights_scale(config.routed_scaling_factor)
    writer.add_expert_weights_norm(config.norm_topk_prob)
    writer.add_expert_gating_func(gguf.ExpertGatingFuncType(SIGMOID))


def _yarn_metadata(writer: gguf.GGUFWriter, config: TextConfig) -> None:
    if config.yarn is None:
        return
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(config.yarn.factor)
    writer.add_rope_scaling_orig_ctx_len(config.yarn.original_max_position_embeddings)
    writer.add_rope_scaling_yarn_log_mul(0.1 * config.yarn.mscale_all_dim)


def _add(
    writer: gguf.GGUFWriter, config: TextConfig, name: str, weight: Tensor, stacks: dict[str, list[NDArray[np.float32]]]
) -> None:
    values = weight.numpy()
    if name in ENDS:
        _tensor(writer, f"{ENDS[name]}.weight", values)
        return
    _, _, layer, rest = name.split(".", 3)
    block = f"blk.{layer}"
    module, _, parameter = rest.rpartition(".")
    if module.startswith("mlp.experts."):
        kind = f"{block}.ffn_{module.split('.')[3].removesuffix('_proj')}_exps.weight"
        stacks[kind].append(values)
        if len(stacks[kind]) == config.n_routed_experts:
            _tensor(writer, kind, np.stack(stacks.pop(kind)))
    elif parameter == "e_score_correction_bias":
        _tensor(writer, f"{block}.exp_probs_b.bias", values)
    elif module == "self_attn.kv_b_proj":
        heads = values.reshape(config.num_attention_heads, -1, config.kv_lora_rank)
        keys, rest_values = np.split(heads, [config.qk_nope_head_dim], axis=1)
        _tensor(writer, f"{block}.attn_k_b.weight", np.ascontiguousarray(keys.transpose(0, 2, 1)))
        _tensor(writer, f"{block}.attn_v_b.weight", np.ascontiguousarray(rest_values))
    else:
        _tensor(writer, f"{block}.{LAYER[module]}.weight", values)


def _tensor(writer: gguf.GGUFWriter, name: str, values: NDArray[np.float32]) -> None:
    """Matrices in Q4_0; norms, biases and the router in float32, as llama.cpp's quantiser keeps them."""
    if values.ndim == 1 or "ffn_gate_inp" in name:
        writer.add_tensor(name, values)
        return
    kind = gguf.GGMLQuantizationType.Q4_0
    writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
