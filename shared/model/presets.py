"""Configurations of checkpoints that this project can make: the released config.json, scaled down.

Input: preset name and number of vocabulary ranks. Output: JSON documents. Special ids keep the released distances.
"""

from typing import Any, Literal

RELEASED_RANKS = 163_584
SPECIALS = 256

BOS, IM_END, MEDIA_PAD, PAD = 163_584, 163_586, 163_605, 163_839

QUANTIZATION: dict[str, Any] = {
    "config_groups": {
        "group_0": {
            "input_activations": None,
            "output_activations": None,
            "targets": ["Linear"],
            "weights": {
                "actorder": None,
                "block_structure": None,
                "dynamic": False,
                "group_size": 32,
                "num_bits": 4,
                "observer": "minmax",
                "observer_kwargs": {},
                "strategy": "group",
                "symmetric": True,
                "type": "int",
            },
        }
    },
    "format": "pack-quantized",
    "ignore": [
        "lm_head",
        "re:.*self_attn.*",
        "re:.*shared_experts.*",
        "re:.*mlp\\.(gate|up|gate_up|down)_proj.*",
    ],
    "kv_cache_scheme": None,
    "quant_method": "compressed-tensors",
    "quantization_status": "compressed",
}

YARN: dict[str, Any] = {
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "factor": 64.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 4096,
    "type": "yarn",
}

TINY_TEXT: dict[str, Any] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "dtype": "bfloat16",
    "first_k_dense_replace": 1,
    "hidden_act": "silu",
    "hidden_size": 128,
    "intermediate_size": 256,
    "kv_lora_rank": 32,
    "max_position_embeddings": 262_144,
    "model_type": "kimi_k2",
    "moe_intermediate_size": 64,
    "moe_layer_freq": 1,
    "n_group": 1,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 3,
    "num_key_value_heads": 4,
    "num_nextn_predict_layers": 0,
    "q_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "quantization_config": QUANTIZATION,
    "rms_norm_eps": 1e-05,
    "rope_scaling": YARN,
    "rope_theta": 50_000.0,
    "routed_scaling_factor": 2.827,
    "scoring_func": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "v_head_dim": 32,
}

TINY_VISION: dict[str, Any] = {
    "init_pos_emb_height": 64,
    "init_pos_emb_time": 4,
    "init_pos_emb_width": 64,
    "merge_kernel_size": [2, 2],
    "merge_type": "sd2_tpool",
    "mm_hidden_size": 64,
    "mm_projector_type": "patchmerger",
    "patch_size": 14,
    "pos_emb_type": "divided_fixed",
    "projector_hidden_act": "gelu",
    "projector_ln_eps": 1e-05,
    "text_hidden_size": 128,
    "video_attn_type": "spatial_temporal",
    "vt_hidden_size": 64,
    "vt_intermediate_size": 128,
    "vt_num_attention_heads": 4,
    "vt_num_hidden_layers": 2,
}

TINY_VL_TEXT: dict[str, Any] = TINY_TEXT | {
    "max_position_embeddings": 131_072,
    "model_type": "deepseek_v3",
    "n_shared_experts": 2,
    "q_lora_rank": None,
    "rope_scaling": None,
    "rope_theta": 800_000.0,
    "routed_scaling_factor": 2.446,
}

TINY_VL_VISION: dict[str, Any] = {
    "hidden_size": 64,
    "init_pos_emb_height": 64,
    "init_pos_emb_width": 64,
    "intermediate_size": 128,
    "merge_kernel_size": [2, 2],
    "model_type": "moonvit",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "patch_size": 14,
}

BENCH_TEXT: dict[str, Any] = TINY_TEXT | {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "kv_lora_rank": 128,
    "moe_intermediate_size": 512,
    "n_routed_experts": 64,
    "num_attention_heads": 16,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 12,
    "num_key_value_heads": 16,
    "q_lora_rank": 384,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "vocab_size": 32_768,
}
"""The released proportions at 1.23 billion parameters, 232 million of them active: what speed is measured with."""

K25: dict[str, Any] = {
    "architectures": ["KimiK25ForConditionalGeneration"],
    "model_type": "kimi_k25",
    "use_unified_vision_chunk": True,
    "video_placeholder": "<|kimi_k25_video_placeholder|>",
}
KIMI_VL: dict[str, Any] = {"architectures": ["KimiVLForConditionalGeneration"], "model_type": "kimi_vl"}

PRESETS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "bench": (K25, BENCH_TEXT, TINY_VISION | {"text_hidden_size": BENCH_TEXT["hidden_size"]}),
    "tiny": (K25, TINY_TEXT, TINY_VISION),
    "tiny-vl": (KIMI_VL, TINY_VL_TEXT, TINY_VL_VISION),
}
"""Name: top level, text and vision section, without what depends on the vocabulary."""

PREPROCESSOR: dict[str, Any] = {
    "media_proc_cfg": {
        "fixed_output_tokens": None,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "in_patch_limit": 16_384,
        "in_patch_limit_each_frame": 4096,
        "in_patch_limit_video": None,
        "max_num_frames_each_video": None,
        "merge_kernel_size": 2,
        "patch_limit_on_one_side": 512,
        "patch_size": 14,
        "sample_fps": 2.0,
        "temporal_merge_kernel_size": 4,
        "timestamp_mode": "hh:mm:ss.fff",
    }
}

GENERATION: dict[str, Any] = {
    "temperature": 1.0,
    "top_p": 0.95,
    "max_new_tokens": 128,
    "thinking_budget_tokens": 32,
    "moontide_random_weights": True,
}
"""Short answers, and a mark by which every surface can say that the answers are noise."""


Experts = Literal["int4", "bf16"]


def document(preset: str, rank_count: int, experts: Experts = "int4") -> dict[str, Any]:
    """config.json of a preset with a vocabulary of ``rank_count`` ranks and 256 special tokens behind them; that of a
    preset may be larger, its other ids mean nothing."""
    top, text, vision = PRESETS[preset]
    if experts == "bf16":
        text = {name: value for name, value in text.items() if name != "quantization_config"}
    shift = rank_count - RELEASED_RANKS
    ids = {"bos_token_id": BOS + shift, "eos_token_id": IM_END + shift, "pad_token_id": PAD + shift}
    return {
        **top,
        **ids,
        "dtype": "bfloat16",
        "ignore_index": -100,
        "media_placeholder_token_id": MEDIA_PAD + shift,
        "text_config": text | ids | {"vocab_size": max(text.get("vocab_size", 0), rank_count + SPECIALS)},
        "tie_word_embeddings": False,
        "vision_config": vision,
    }
