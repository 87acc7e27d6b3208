"""Configurations of released models by name, so that a plan needs no file.

Output: JSON documents with the dimensions of the released config.json; weights of this size are never made here.
"""

from typing import Any

from shared.model import presets

KIMI_K2_6_TEXT: dict[str, Any] = presets.TINY_TEXT | {
    "first_k_dense_replace": 1,
    "hidden_size": 7168,
    "intermediate_size": 18_432,
    "kv_lora_rank": 512,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 384,
    "n_shared_experts": 1,
    "num_attention_heads": 64,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 64,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}

KIMI_K2_6_VISION: dict[str, Any] = presets.TINY_VISION | {
    "mm_hidden_size": 1152,
    "text_hidden_size": 7168,
    "vt_hidden_size": 1152,
    "vt_intermediate_size": 4304,
    "vt_num_attention_heads": 16,
    "vt_num_hidden_layers": 27,
}

SECTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {"kimi-k2.6": (KIMI_K2_6_TEXT, KIMI_K2_6_VISION)}
"""Name: text and vision section, without what depends on the vocabulary."""


def document(name: str) -> dict[str, Any]:
    """config.json of a released model, as far as it can change a result. Raises KeyError for an unknown name."""
    text, vision = SECTIONS[name]
    return presets.document("tiny", presets.RELEASED_RANKS) | {
        "text_config": text | {"vocab_size": presets.RELEASED_RANKS + presets.SPECIALS},
        "vision_config": vision,
    }
