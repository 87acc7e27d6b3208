"""transformers' ``deepseek_v3`` and ``kimi_k25`` with the weights of one of our networks: an independent opinion.

transformers has no ``kimi_vl``. Its parts are those of ``kimi_k25`` with one frame, and of ``deepseek_v3`` without a
query rank and without YaRN, so they are compared with these.
"""

import re
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM
from transformers.models.kimi_k25.configuration_kimi_k25 import Kimi_K25Config, Kimi_K25VisionConfig
from transformers.models.kimi_k25.modeling_kimi_k25 import (
    Kimi_K25ForConditionalGeneration,
    Kimi_K25MultimodalProjection,
    Kimi_K25VisionModel,
)

from shared.model.config import ModelConfig, TextConfig
from shared.model.network import Network

VISION_RENAMES = (
    (r"^encoder\.blocks\.", "layers."),
    (r"^encoder\.", ""),
    (r"\.norm1\.", ".norm2."),
    (r"\.norm0\.", ".norm1."),
    (r"\.mlp\.fc1\.", ".mlp.fc2."),
    (r"\.mlp\.fc0\.", ".mlp.fc1."),
    (r"\.wo\.", ".attn.proj."),
    (r"pos_emb\.weight", "pos_emb.position_embeddings"),
)


def text_oracle(network: Network) -> nn.Module:
    """``DeepseekV3ForCausalLM`` with the same float32 weights and the same epsilon in the latent norms."""
    config = network.config.text
    model = DeepseekV3ForCausalLM(text_config(config)).eval()
    model.load_state_dict(_fused(network.language_model.state_dict(), config))
    for name, module in model.named_modules():
        if name.endswith(("q_a_layernorm", "kv_a_layernorm")):
            module.variance_epsilon = config.rms_norm_eps
    return model


def text_config(config: TextConfig) -> DeepseekV3Config:
    rope: dict[str, Any] = {"rope_type": "default"}
    if config.yarn is not None:
        rope = {name: getattr(config.yarn, name) for name in config.yarn.__struct_fields__} | {"rope_type": "yarn"}
    values: dict[str, Any] = {name: getattr(config, name) for name in config.__struct_fields__ if name != "yarn"}
    theta = values.pop("rope_theta")
    return DeepseekV3Config(
        **values,
        n_group=1,
        topk_group=1,
        num_key_value_heads=config.num_attention_heads,
        num_mtp_layers=0,
        rope_parameters=rope | {"rope_theta": theta},
        attn_implementation="eager",
    )


def _fused(state: dict[str, Tensor], config: TextConfig) -> dict[str, Tensor]:
    """transformers holds all experts of a layer in two tensors."""
    fused = {name: value for name, value in state.items() if ".experts." not in name}
    for layer in range(config.first_k_dense_replace, config.num_hidden_layers):
        prefix = f"model.layers.{layer}.mlp.experts"

        def all_of(kind: str, prefix: str = prefix) -> Tensor:
            return torch.stack([state[f"{prefix}.{e}.{kind}_proj.weight"] for e in range(config.n_routed_experts)])

        fused[f"{prefix}.gate_up_proj"] = torch.cat((all_of("gate"), all_of("up")), dim=1)
        fused[f"{prefix}.down_proj"] = all_of("down")
    return fused


def vision_oracle(network: Network) -> tuple[nn.Module, nn.Module]:
    """transformers' tower and projector with the same float32 weights."""
    config = vision_config(network.config)
    tower = Kimi_K25VisionModel(config.vision_config).eval()
    tower.load_state_dict(_renamed(network.vision_tower.state_dict(), config.vision_config.num_attention_heads))
    projector = Kimi_K25MultimodalProjection(config).eval()
    state = network.projector.state_dict()
    projector.load_state_dict({_renamed_projection(name): value for name, value in state.items()})
    return tower, projector


def _renamed_projection(name: str) -> str:
    for ours, theirs in (
        ("proj.0", "in_proj"),
        ("proj.2", "out_proj"),
        ("linear_1", "in_proj"),
        ("linear_2", "out_proj"),
    ):
        name = name.replace(ours, theirs)
    return name


def whole_oracle(network: Network) -> nn.Module:
    """``Kimi_K25ForConditionalGeneration`` with the same float32 weights, put together from the parts above."""
    config = vision_config(network.config)
    config.image_token_id = network.config.media_placeholder_token_id
    config._attn_implementation = "eager"
    model = Kimi_K25ForConditionalGeneration(config).eval()
    text, (tower, projector) = text_oracle(network), vision_oracle(network)
    model.model.language_model, model.lm_head = text.model, text.lm_head
    model.model.vision_tower, model.model.mm_projector = tower, projector
    return model


def vision_config(config: ModelConfig) -> Kimi_K25Config:
    vision = config.vision
    assert vision is not None
    tower = Kimi_K25VisionConfig(
        hidden_size=vision.hidden_size,
        num_hidden_layers=vision.num_hidden_layers,
        num_attention_heads=vision.num_attention_heads,
        intermediate_size=vision.intermediate_size,
        rope_parameters={"rope_type": "axial", "rope_theta": 10000.0},
        attn_implementation="eager",
    )
    return Kimi_K25Config(
        text_config=text_config(config.text), vision_config=tower, projection_hidden_size=vision.hidden_size
    )


def _renamed(state: dict[str, Tensor], heads: int) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        for pattern, replacement in VISION_RENAMES:
            name = re.sub(pattern, replacement, name)
        if ".wqkv." in name:
            q, k, v = value.chunk(3)
            parts = {"q": _split_pairs(q, heads), "k": _split_pairs(k, heads), "v": v}
            renamed |= {name.replace("wqkv", f"attn.{which}_proj"): part for which, part in parts.items()}
        else:
            renamed[name] = value
    return renamed


def _split_pairs(rows: Tensor, heads: int) -> Tensor:
    """Rows of interleaved pairs, per head, as transformers wants them: all first elements, then all second ones."""
    return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
