"""Loading names what is wrong before anything is served; figures equal what lies on disk."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from shared.errors import BadInput
from shared.model import config as configuration
from shared.model import layout, presets
from shared.model.checkpoint import Checkpoint, load
from shared.model.config import ModelConfig
from shared.model.figures import figures
from shared.model.initialise import initialise
from shared.model.network import build

SHARD = layout.shard_name(2, 6)
EXPERT = "language_model.model.layers.1.mlp.experts.3.up_proj"


@pytest.fixture
def directory(tiny_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_directory, tmp_path / "copy"))


def rewrite(directory: Path, change: Any) -> None:
    tensors = load_file(directory / SHARD)
    change(tensors)
    save_file(tensors, directory / SHARD)


def test_layout_and_network_name_the_same_weights(tiny: Checkpoint) -> None:
    parameters = {name for name, _ in build(tiny.config).state_dict().items()}
    assert parameters == {entry.name for entry in layout.entries(tiny.config)}


def test_experts_stay_packed_and_everything_else_is_plain(tiny: Checkpoint) -> None:
    names = set(tiny.network.state_dict())
    assert f"{EXPERT}.weight_packed" in names
    assert not any("weight_packed" in name and ".experts." not in name for name in names)


@pytest.mark.parametrize("seed", range(5))
def test_figures_equal_what_lies_on_disk(tmp_path: Path, seed: int) -> None:
    document = presets.document("tiny", 300 + seed)
    document["text_config"] |= {
        "num_hidden_layers": 2,
        "n_routed_experts": 3 + seed,
        "moe_intermediate_size": 33 + seed,
    }
    initialise(tmp_path / "c", document, seed, tokenizer_config=None)
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted((tmp_path / "c").glob("*.safetensors")):
        tensors |= load_file(path)
    derived = figures(configuration.load(tmp_path / "c"))
    assert derived.tensor_count == len(tensors)
    assert derived.weight_bytes == sum(tensor.nbytes for tensor in tensors.values())
    shapes = [tensor for name, tensor in tensors.items() if name.endswith("weight_shape")]
    plain = [tensor for name, tensor in tensors.items() if not name.endswith(("_packed", "_scale", "_shape"))]
    assert derived.parameters_total == sum(int(s.prod()) for s in shapes) + sum(tensor.numel() for tensor in plain)
    load(tmp_path / "c")


def test_figures_of_the_released_configuration(released: ModelConfig) -> None:
    derived = figures(released)
    assert derived.parameters_total == pytest.approx(1.026e12, rel=0.005)
    assert derived.parameters_active == pytest.approx(3.29e10, rel=0.005)
    assert derived.tensor_count == 208_550
    assert 594e9 <= derived.weight_bytes <= 596e9
    assert derived.cache_bytes_per_token == 70_272
    assert derived.context_length == 262_144


def test_same_seed_same_bytes_other_seed_other_digest(tmp_path: Path, tiny: Checkpoint) -> None:
    for name, seed in (("same", 7), ("other", 8)):
        initialise(tmp_path / name, presets.document("tiny", 512), seed, tokenizer_config=None)
    assert load(tmp_path / "same").digest == tiny.digest
    assert load(tmp_path / "other").digest != tiny.digest


def test_a_directory_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(BadInput, match="exists"):
        initialise(tmp_path, presets.document("tiny", 512), 1, tokenizer_config=None)


def test_a_missing_tensor_is_named(directory: Path) -> None:
    index = directory / "model.safetensors.index.json"
    document = json.loads(index.read_bytes())
    del document["weight_map"][f"{EXPERT}.weight_scale"]
    index.write_text(json.dumps(document))
    with pytest.raises(BadInput, match=f"missing tensor {EXPERT}.weight_scale"):
        load(directory)


def test_a_tensor_that_only_the_index_knows_is_named(directory: Path) -> None:
    rewrite(directory, lambda tensors: tensors.pop(f"{EXPERT}.weight_scale"))
    with pytest.raises(BadInput, match=f"{EXPERT}.weight_scale is not in {SHARD}"):
        load(directory)


def test_a_misnamed_tensor_is_named_with_what_it_should_be(directory: Path) -> None:
    (directory / "model.safetensors.index.json").unlink()
    rewrite(
        directory,
        lambda t: t.update(
            {"language_model.model.layers.1.mlp.gate.wieght": t.pop("language_model.model.layers.1.mlp.gate.weight")}
        ),
    )
    with pytest.raises(BadInput, match=r"missing tensor .*mlp\.gate\.weight \(is .*wieght misnamed\?\)"):
        load(directory)


def test_a_wrong_shape_is_named(directory: Path) -> None:
    name = "language_model.model.layers.1.input_layernorm.weight"
    rewrite(directory, lambda tensors: tensors.update({name: torch.ones(64, dtype=torch.bfloat16)}))
    with pytest.raises(BadInput, match=rf"{name} in .* has shape \[64\], expected \[128\]"):
        load(directory)


def test_a_wrong_recorded_shape_of_a_packed_weight_is_named(directory: Path) -> None:
    name = f"{EXPERT}.weight_shape"
    rewrite(directory, lambda tensors: tensors.update({name: torch.tensor([64, 96], dtype=torch.int32)}))
    with pytest.raises(BadInput, match=name):
        load(directory)


def test_a_truncated_file_is_named(directory: Path) -> None:
    path = directory / SHARD
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match=f"{SHARD} is truncated or damaged"):
        load(directory)


def test_a_missing_file_is_named(directory: Path) -> None:
    (directory / SHARD).unlink()
    with pytest.raises(BadInput, match=f"missing file {SHARD}"):
        load(directory)


def test_plain_experts_load_as_well(tmp_path: Path) -> None:
    document = presets.document("tiny", 300)
    del document["text_config"]["quantization_config"]
    initialise(tmp_path / "plain", document, 1, tokenizer_config=None)
    with safe_open(str(tmp_path / "plain" / SHARD), framework="pt") as file:
        assert f"{EXPERT}.weight" in file.keys()  # noqa: SIM118
    assert f"{EXPERT}.weight" in load(tmp_path / "plain").network.state_dict()


def test_progress_reaches_the_whole(tiny_directory: Path) -> None:
    seen: list[tuple[int, int]] = []
    checkpoint = load(tiny_directory, progress=lambda done, total: seen.append((done, total)))
    total = figures(checkpoint.config).weight_bytes
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def parse(change: Any) -> ModelConfig:
    document = msgspec.json.decode(msgspec.json.encode(presets.document("tiny", 512)))
    change(document)
    return configuration.parse(msgspec.json.encode(document))


def test_both_spellings_are_one_configuration() -> None:
    def other(document: dict[str, Any]) -> None:
        text = document["text_config"]
        rope = text.pop("rope_scaling")
        text["model_type"] = "deepseek_v3"
        text["rope_parameters"] = rope | {"rope_type": rope["type"], "rope_theta": text.pop("rope_theta")}
        del text["rope_parameters"]["type"]
        document["quantization_config"] = text.pop("quantization_config")

    assert parse(other) == parse(lambda document: None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_act", "gelu"),
        ("scoring_func", "softmax"),
        ("sliding_window", 4096),
        ("n_group", 8),
        ("attention_bias", True),
        ("num_nextn_predict_layers", 1),
        ("num_key_value_heads", 2),
        ("q_lora_rank", -1),
        ("hidden_size", "many"),
        ("num_experts_per_tok", 99),
    ],
)
def test_what_is_not_understood_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(BadInput, match=field):
        parse(lambda document: document["text_config"].update({field: value}))


@pytest.mark.parametrize(("field", "value"), [("merge_type", "mean"), ("pos_emb_type", "learned"), ("window", 8)])
def test_vision_values_that_are_not_understood_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(BadInput, match=field):
        parse(lambda document: document["vision_config"].update({field: value}))


def quantised_weights(document: dict[str, Any]) -> dict[str, Any]:
    return document["text_config"]["quantization_config"]["config_groups"]["group_0"]["weights"]


def test_other_ropes_and_other_quantisations_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match="longrope"):
        parse(lambda document: document["text_config"]["rope_scaling"].update({"type": "longrope"}))
    with pytest.raises(BadInput, match="num_bits"):
        parse(lambda document: quantised_weights(document).update(num_bits=8))
    with pytest.raises(BadInput, match="not a JSON object"):
        configuration.parse(b"[]")


def test_unreadable_directories_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"config\.json"):
        load(tmp_path)
