"""Kimi-VL directories: their spellings, their names, their sizes."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.errors import BadInput
from shared.model import config as configuration
from shared.model import layout, presets
from shared.model.checkpoint import load
from shared.model.config import ModelConfig
from shared.model.figures import figures
from shared.model.initialise import initialise
from shared.model.network import build

RELEASED_TEXT = {
    "hidden_size": 2048,
    "intermediate_size": 11_264,
    "kv_lora_rank": 512,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "num_attention_heads": 16,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 27,
    "num_key_value_heads": 16,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 163_840,
}
RELEASED_VISION = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 27}


def document(experts: presets.Experts = "int4") -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(presets.document("tiny-vl", 300, experts)))


def parse(made: dict[str, Any]) -> ModelConfig:
    return configuration.parse(msgspec.json.encode(made))


def test_the_released_sizes_give_sixteen_billion_parameters_with_three_active() -> None:
    made = document("bf16")
    made["text_config"] |= RELEASED_TEXT
    made["vision_config"] |= RELEASED_VISION
    derived = figures(parse(made))
    assert derived.parameters_total == pytest.approx(16.4e9, rel=0.01)
    assert derived.parameters_active == pytest.approx(2.8e9, rel=0.1)
    assert derived.cache_bytes_per_token == 27 * 576 * 2
    assert derived.context_length == 131_072


def test_names_are_the_released_ones() -> None:
    config = parse(document())
    names = {entry.name for entry in layout.entries(config)}
    assert {
        f"multi_modal_projector.{part}.{kind}"
        for part in ("pre_norm", "linear_1", "linear_2")
        for kind in ("weight", "bias")
    } <= names
    assert {"vision_tower.encoder.blocks.1.wqkv.bias", "vision_tower.patch_embed.pos_emb.weight"} <= names
    assert "language_model.model.layers.1.self_attn.q_proj.weight" in names
    assert not any("mm_projector" in name or "q_a_" in name for name in names)
    assert names == set(build(config).state_dict())


def test_what_the_configuration_leaves_out_is_what_the_released_code_has() -> None:
    config = parse(document())
    assert config.vision is not None
    assert (config.vision.position_time, config.vision.projector_eps) == (1, 1e-5)
    assert config.text.yarn is None
    assert (config.text.q_lora_rank, config.text.n_shared_experts) == (None, 2)
    assert config.media_placeholder_token_id == 321


def test_a_text_section_may_leave_out_its_model_type() -> None:
    made = document()
    del made["text_config"]["model_type"]
    assert parse(made) == parse(document())


@pytest.mark.parametrize(("field", "value"), [("init_pos_emb_time", 4), ("merge_type", "sd2_tpool"), ("window", 8)])
def test_what_the_tower_does_not_know_is_refused_by_name(field: str, value: Any) -> None:
    made = document()
    made["vision_config"][field] = value
    with pytest.raises(BadInput, match=field):
        parse(made)


def test_the_tower_of_k25_takes_either_spelling_and_refuses_both_when_they_differ() -> None:
    released = msgspec.json.decode(msgspec.json.encode(presets.document("tiny", 300)))
    other = msgspec.json.decode(msgspec.json.encode(released))
    other["vision_config"] = {name.removeprefix("vt_"): value for name, value in other["vision_config"].items()}
    assert parse(other) == parse(released)
    other["vision_config"]["vt_hidden_size"] = 96
    with pytest.raises(BadInput, match="vt_hidden_size and hidden_size differ"):
        parse(other)


@pytest.mark.parametrize("experts", ["int4", "bf16"])
def test_a_made_directory_loads(tmp_path: Path, experts: presets.Experts) -> None:
    initialise(tmp_path / "c", document(experts), 1, tokenizer_config=None)
    index = json.loads((tmp_path / "c" / "model.safetensors.index.json").read_bytes())
    assert index["weight_map"].keys() == {stored.name for stored in layout.all_stored(parse(document(experts)))}
    assert load(tmp_path / "c").config.family == "kimi_vl"
