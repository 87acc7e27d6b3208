"""`checkpoint quantize`: the released INT4 layout out of plain weights, exact, whole or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kernels.reference.int4 import dequantize_int4_ref
from services.inference.command import main
from shared.errors import BadInput
from shared.model import config as configuration
from shared.model import layout, presets
from shared.model import quantise as module
from shared.model.checkpoint import load
from shared.model.figures import figures
from shared.model.initialise import initialise
from shared.model.quantise import quantise
from tests.sequence import logits

EXPERT = "language_model.model.layers.1.mlp.experts.3.up_proj"
PACKED = (".weight_packed", ".weight_scale", ".weight_shape")


def make(out: Path, *, preset: str = "tiny", experts: presets.Experts = "bf16", dtype: str = "bfloat16") -> Path:
    document = presets.document(preset, 300, experts) | {"dtype": dtype}
    initialise(out, document, seed=3, vocabulary=b"IQ== 0\n", tokenizer_config={})
    return out


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("plain") / "source")


@pytest.fixture(scope="module")
def quantised(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "out"
    quantise(source, out)
    return out


def tensors(directory: Path) -> dict[str, Tensor]:
    return {name: value for path in directory.glob("*.safetensors") for name, value in load_file(path).items()}


def packed_modules(found: dict[str, Tensor]) -> list[str]:
    return [name.removesuffix(".weight_packed") for name in found if name.endswith(".weight_packed")]


def dequantised(found: dict[str, Tensor], name: str, dtype: torch.dtype) -> Tensor:
    columns = int(found[f"{name}.weight_shape"][1])
    return dequantize_int4_ref(found[f"{name}.weight_packed"], found[f"{name}.weight_scale"], columns, dtype)


def plain_copy(source: Path, packed: Path, out: Path, dtype: torch.dtype) -> Path:
    """``source`` with the experts that ``packed`` stands for, as plain weights."""
    found = tensors(packed)
    out.mkdir()
    for path in source.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    for path in out.glob("*.safetensors"):
        kept = load_file(path)
        names = [name for name in packed_modules(found) if f"{name}.weight" in kept]
        save_file(kept | {f"{name}.weight": dequantised(found, name, dtype) for name in names}, path)
    return out


def computed(directory: Path, dtype: torch.dtype) -> Tensor:
    text = load(directory, dtype=dtype).network.language_model
    ids = torch.randint(300, (40,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return logits(text, ids)


def test_only_routed_experts_are_packed_and_nothing_else_changes(source: Path, quantised: Path) -> None:
    before, after = tensors(source), tensors(quantised)
    modules = packed_modules(after)
    assert len(modules) == 2 * 8 * 3
    assert all(".mlp.experts." in name for name in modules)
    kept = {name for name in after if not name.endswith(PACKED)}
    assert kept == before.keys() - {f"{name}.weight" for name in modules}
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in kept)


def test_types_shapes_files_and_configuration_are_the_released_ones(quantised: Path) -> None:
    config = configuration.load(quantised)
    found = tensors(quantised)
    words = {torch.int32: "I32", torch.bfloat16: "BF16", torch.float32: "F32"}
    expected = {stored.name: (stored.shape, stored.dtype) for stored in layout.all_stored(config)}
    assert {name: (tuple(value.shape), words[value.dtype]) for name, value in found.items()} == expected
    assert found[f"{EXPERT}.weight_shape"].tolist() == [64, 128]
    assert {path.name for path in quantised.glob("*.safetensors")} == {layout.shard_name(i, 6) for i in range(1, 7)}
    document = json.loads((quantised / "config.json").read_bytes())
    assert document["text_config"]["quantization_config"] == presets.QUANTIZATION
    assert figures(config).weight_bytes == sum(value.nbytes for value in found.values())
    index = json.loads((quantised / "model.safetensors.index.json").read_bytes())
    assert index["weight_map"].keys() == found.keys()
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in found.values())


def test_weights_are_those_of_compressed_tensors_bit_for_bit(source: Path, quantised: Path) -> None:
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize

    arguments = QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="group", group_size=32)
    before, after = tensors(source), tensors(quantised)
    for name in packed_modules(after):
        scale, shape = after[f"{name}.weight_scale"], torch.Size(after[f"{name}.weight_shape"].tolist())
        values = helpers.unpack_from_int32(after[f"{name}.weight_packed"], 4, shape)
        theirs = dequantize(values, scale, args=arguments)
        assert torch.equal(dequantised(after, name, theirs.dtype), theirs)
        assert torch.equal(helpers.pack_to_int32(values, 4), after[f"{name}.weight_packed"])
        groups = before[f"{name}.weight"].float().unflatten(1, (-1, 32))
        assert torch.equal(scale, (groups.abs().amax(-1) / 7).clamp_min(1e-5).bfloat16())
        steps = (groups / scale.float().unsqueeze(-1)).round().clamp(-7, 7).flatten(1)
        assert torch.equal(values.float(), steps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_logits_are_those_of_the_dequantised_weights(
    source: Path, quantised: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    plain = plain_copy(source, quantised, tmp_path / "plain", dtype)
    assert torch.equal(computed(quantised, dtype), computed(plain, dtype))
    assert not torch.equal(computed(quantised, dtype), computed(source, dtype))


@pytest.mark.parametrize("preset", sorted(presets.PRESETS))
def test_a_float32_source_gives_what_init_writes_in_int4(tmp_path: Path, preset: str) -> None:
    quantise(make(tmp_path / "plain", preset=preset, dtype="float32"), tmp_path / "out")
    expected = make(tmp_path / "expected", preset=preset, experts="int4", dtype="float32")
    load(tmp_path / "out")
    before, after = tensors(expected), tensors(tmp_path / "out")
    assert before.keys() == after.keys()
    assert all(before[name].dtype == after[name].dtype and torch.equal(before[name], after[name]) for name in before)


def test_pieces_do_not_show(source: Path, quantised: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", 1000)
    quantise(source, tmp_path / "out")
    for path in quantised.glob("*.safetensors"):
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_other_files_come_along(source: Path, tmp_path: Path) -> None:
    plain = plain_copy(source, source, tmp_path / "plain", torch.bfloat16)
    (plain / "README.md").write_text("license: mit\n")
    quantise(plain, tmp_path / "out")
    for name in ("README.md", "tiktoken.model", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (plain / name).read_bytes()


def test_progress_reaches_the_whole(source: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    quantise(source, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    total = figures(configuration.load(tmp_path / "out")).weight_bytes
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def refused(source: Path, out: Path, match: str) -> None:
    before = set(out.parent.iterdir())
    with pytest.raises(BadInput, match=match):
        quantise(source, out)
    assert set(out.parent.iterdir()) == before, "something was left behind"


def test_a_directory_in_the_way_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    refused(source, tmp_path / "out", "exists")


def test_a_quantised_source_is_refused(quantised: Path, tmp_path: Path) -> None:
    refused(quantised, tmp_path / "out", "quantised already")


def test_packed_weights_without_a_word_in_the_configuration_are_refused(quantised: Path, tmp_path: Path) -> None:
    plain = plain_copy(quantised, quantised, tmp_path / "plain", torch.bfloat16)
    document = json.loads((plain / "config.json").read_bytes())
    del document["text_config"]["quantization_config"]
    (plain / "config.json").write_text(json.dumps(document))
    refused(plain, tmp_path / "out", "quantised already")


def changed(source: Path, directory: Path, change: Any) -> Path:
    plain = plain_copy(source, source, directory, torch.bfloat16)
    found = load_file(plain / layout.shard_name(2, 6))
    change(found)
    save_file(found, plain / layout.shard_name(2, 6))
    return plain


def test_a_missing_tensor_is_named(source: Path, tmp_path: Path) -> None:
    plain = changed(source, tmp_path / "plain", lambda found: found.pop(f"{EXPERT}.weight"))
    refused(plain, tmp_path / "out", f"{EXPERT}.weight")


def test_a_weight_that_is_not_finite_is_named(source: Path, tmp_path: Path) -> None:
    plain = changed(source, tmp_path / "plain", lambda found: found[f"{EXPERT}.weight"][5, 7].fill_(float("nan")))
    refused(plain, tmp_path / "out", f"{EXPERT}.weight is not finite")


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, out = str(tmp_path / "plain"), str(tmp_path / "out")
    assert main(["checkpoint", "init", "--experts", "bf16", "--preset", "tiny-vl", "--out", plain]) == 0
    assert main(["checkpoint", "quantize", plain, "--out", out]) == 0
    assert "written" in capsys.readouterr().err
    assert packed_modules(tensors(tmp_path / "out"))
    assert main(["checkpoint", "quantize", out, "--out", str(tmp_path / "again")]) == 1
    assert "quantised already" in capsys.readouterr().err
