"""Loading takes what the network needs and little more; a process may hold a part; what it does not need may be bad."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.errors import BadInput
from shared.model import layout, presets, rope
from shared.model.cache import LatentCache
from shared.model.checkpoint import Checkpoint, load
from shared.model.initialise import initialise
from shared.model.part import EVERYTHING, Part
from tests.measure.real_layer import write_checkpoint

ROOT = Path(__file__).resolve().parents[3]
PEAK = 1.1
MIDDLE = Part(layers=range(1, 2), embeddings=False, head=False, vision=False)


@pytest.fixture(scope="module")
def large_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 280 MB: two tensors of a quarter of it each, large dense layers, and a tenth in INT4."""
    out = tmp_path_factory.mktemp("checkpoints") / "large"
    document = presets.document("tiny", 32_768)
    document["text_config"] |= {
        "hidden_size": 1024,
        "intermediate_size": 16_384,
        "moe_intermediate_size": 1024,
        "n_routed_experts": 8,
        "num_hidden_layers": 3,
    }
    document["vision_config"] = document["vision_config"] | {"text_hidden_size": 1024}
    initialise(out, document, seed=1, tokenizer_config=None)
    return out


def measured(directory: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.measure.loading", str(directory), *options]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=60).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("options", [("--dtype", "float32"), ("--dtype", "bfloat16"), ("--layer", "0")])
def test_the_peak_of_loading_is_what_stays_resident(large_directory: Path, options: tuple[str, ...]) -> None:
    figures = measured(large_directory, *options)
    assert figures["weight_bytes"] > 200e6
    assert figures["load_peak_bytes"] < PEAK * figures["weight_bytes"]
    assert figures["peak_bytes"] < PEAK * figures["resident_bytes"]
    assert figures["resident_bytes"] < PEAK * figures["weight_bytes"]


def test_a_part_holds_its_weights_and_nothing_else(tiny_directory: Path, tiny: Checkpoint) -> None:
    part = Part(layers=range(1, 3), experts=range(2, 5), head=False, vision=False)
    seen: list[tuple[int, int]] = []
    checkpoint = load(tiny_directory, dtype=torch.float32, part=part, progress=lambda *now: seen.append(now))
    weights = {name for name, weight in checkpoint.network.state_dict().items() if not weight.is_meta}
    layers = {name.split(".")[3] for name in weights if ".layers." in name}
    experts = {name.split(".")[6] for name in weights if ".experts." in name}
    assert (layers, experts) == ({"1", "2"}, {"2", "3", "4"})
    assert "language_model.model.embed_tokens.weight" in weights
    assert not any(word in name for name in weights for word in ("lm_head", "model.norm", "vision", "projector"))
    assert checkpoint.digest == tiny.digest
    assert seen[-1][0] == seen[-1][1]


def test_parts_together_are_everything(tiny: Checkpoint) -> None:
    halves = [Part(experts=range(4), vision=False), Part(experts=range(4, 8), embeddings=False, head=False)]
    for entry in layout.entries(tiny.config):
        assert EVERYTHING.holds(entry)
        assert any(part.holds(entry) for part in halves)


def test_a_layer_alone_computes_what_it_computes_in_the_whole(tiny_directory: Path, tiny: Checkpoint) -> None:
    alone = load(tiny_directory, dtype=torch.float32, part=MIDDLE).network.language_model
    assert (alone.dtype, alone.device.type) == (torch.float32, "cpu")
    config = tiny.config.text
    hidden = torch.randn(20, config.hidden_size, generator=torch.Generator().manual_seed(1))
    tables = rope.tables(rope.frequencies(config), torch.arange(20), rope.table_scale(config))
    results = [
        text.model.layers[1](hidden, *tables, cache(text.config.kv_lora_rank + config.qk_rope_head_dim), absorbed=False)
        for text in (alone, tiny.network.language_model)
    ]
    assert torch.equal(*results)


def cache(width: int) -> LatentCache:
    return LatentCache(width, torch.float32, torch.device("cpu"))


@pytest.mark.parametrize("part", [Part(layers=range(2, 4)), Part(experts=range(8, 9)), Part(layers=range(1, 1))])
def test_a_part_beyond_the_model_is_refused(tiny_directory: Path, part: Part) -> None:
    with pytest.raises(BadInput, match="are not among"):
        load(tiny_directory, part=part)


def test_what_a_part_does_not_need_may_be_bad_but_must_be_there(tiny_directory: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(tiny_directory, tmp_path / "copy"))
    first = directory / layout.shard_name(1, 6)
    first.write_bytes(first.read_bytes()[:-100])
    load(directory, part=MIDDLE)
    with pytest.raises(BadInput, match=f"{first.name} is truncated or damaged"):
        load(directory)
    first.unlink()
    with pytest.raises(BadInput, match=f"missing file {first.name}"):
        load(directory, part=MIDDLE)


def test_experts_of_the_released_kind_stay_packed_and_mapped(tmp_path: Path) -> None:
    """The layer of ``make layer``, scaled down: written tensor by tensor, loaded, run in slices and token by token."""
    write_checkpoint(tmp_path / "layer", hidden_size=64, moe_intermediate_size=96, n_routed_experts=9, q_lora_rank=16)
    text = load(tmp_path / "layer", dtype=torch.float32, part=Part(vision=False)).network.language_model
    weights = {name: weight for name, weight in text.state_dict().items() if ".experts." in name}
    assert {weight.dtype for weight in weights.values()} == {torch.int32, torch.bfloat16}
    hidden = text(text.embed(torch.arange(9)), text.new_caches())
    assert 0.1 < hidden.std() < 10
