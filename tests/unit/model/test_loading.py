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
from shared.model.batch import ForwardBatch, Segment
from shared.model.checkpoint import Checkpoint, load
from shared.model.initialise import initialise
from shared.model.part import EVERYTHING, Part
from tests.measure.real_layer import write_checkpoint
from tests.sequence import hidden_rows

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
@pytest.mark.parametrize(
    ("options", "matrix_bytes"),
    [(("--dtype", "float32"), 0), (("--dtype", "bfloat16"), 0), (("--layer", "0"), 1024 * 16_384 * 2)],
)
def test_the_peak_of_loading_is_what_stays_resident(
    large_directory: Path, options: tuple[str, ...], matrix_bytes: int
) -> None:
    """``matrix_bytes``: the matrix that is being laid out is there twice; in this dense layer it is a third of all."""
    figures = measured(large_directory, *options)
    assert figures["weight_bytes"] > 70e6
    assert figures["load_peak_bytes"] < PEAK * figures["weight_bytes"] + matrix_bytes
    assert figures["peak_bytes"] < PEAK * figures["resident_bytes"] + matrix_bytes
    assert figures["resident_bytes"] < PEAK * figures["weight_bytes"]


def test_a_part_holds_its_weights_and_nothing_else(tiny_directory: Path, tiny: Checkpoint) -> None:
    part = Part(layers=range(1, 3), experts=range(2, 5), head=False, vision=False)
    seen: list[tuple[int, int]] = []
    checkpoint = load(
        tiny_directory, dtype=torch.float32, part=part, progress=lambda *now: seen.append(now), prepared=False
    )
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
    cos, sin = rope.RotaryTable(config, torch.device("cpu")).rows(torch.arange(20))
    batch, whole = ForwardBatch([Segment(0, 20, [0])]), tiny.network.language_model
    expected = whole.layers[1](hidden, cos, sin, batch, whole.new_pool(1).latents[1])
    assert torch.equal(alone(hidden, batch, alone.new_pool(1)), expected)


def test_some_experts_of_a_layer_give_the_rows_of_those_experts(tiny_directory: Path, tiny: Checkpoint) -> None:
    part = Part(layers=range(1, 2), experts=range(2, 5), embeddings=False, head=False, vision=False)
    mixture = load(tiny_directory, dtype=torch.float32, part=part).network.language_model.layers[0].mlp
    whole = tiny.network.language_model.layers[1].mlp
    x = torch.randn(6, tiny.config.text.hidden_size, generator=torch.Generator().manual_seed(2))
    chosen = torch.tensor([[2, 4], [3, 2], [4, 3], [2, 3], [3, 4], [4, 2]])
    assert torch.equal(mixture.routed(x, chosen), whole.routed(x, chosen))


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


def test_experts_of_the_released_kind_stay_packed(tmp_path: Path) -> None:
    """The layer of ``make layer``, scaled down: written tensor by tensor, loaded, run in slices and token by token."""
    write_checkpoint(tmp_path / "layer", hidden_size=64, moe_intermediate_size=96, n_routed_experts=9, q_lora_rank=16)
    text = load(tmp_path / "layer", dtype=torch.float32, part=Part(vision=False)).network.language_model
    experts = text.layers[0].mlp.prepared_tensors()
    assert sum(tensor.nbytes for tensor in experts) < 1.1 * 9 * 3 * 64 * 96 * (4 / 8 + 2 / 32)
    hidden = hidden_rows(text, text.embed(torch.arange(9)), [4, 5])
    assert 0.1 < hidden.std() < 10
