"""A checkpoint with plain weights becomes one in the released INT4 layout: routed experts packed, all else as it is.

Input: a source directory. Output: a directory that loads like a released one. Weights pass in pieces of some rows, and
the source is unmapped again and again, so memory does not grow with the model. Source of the grid: see
``kernels.reference.int4.quantize_int4_ref``.
"""

import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from kernels.reference.int4 import pack_int4_ref, quantize_int4_ref
from shared.errors import BadInput
from shared.model import config as configuration
from shared.model import layout, presets
from shared.model.config import ModelConfig
from shared.model.destination import TensorFile, destination, index, write_json
from shared.model.layout import Entry, Stored
from shared.model.shards import INDEX, Shards, bad_checkpoint

PIECE = 2**24
"""Elements of one piece."""
MAPPED = 2**27
"""Elements read of the source before it is unmapped: pages of mapped files count as memory of the process."""
TORCH = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}

Plan = list[tuple[Entry, list[Stored]]]
"""The weights of one file with the tensors that they become."""

Progress = Callable[[int, int], None]
"""Called with (bytes written, bytes in all) after each weight."""


def quantise(source: Path, out: Path, progress: Progress | None = None) -> None:
    """Write ``out`` whole or not at all.

    Raises BadInput when ``out`` is in the way, when the source is quantised already, and naming every tensor of the
    source that is missing, truncated, misnamed, wrongly shaped or not finite.
    """
    plain = configuration.load(source)
    document = packed_document(msgspec.json.decode((source / "config.json").read_bytes()))
    packed = configuration.parse(msgspec.json.encode(document))
    with Shards(source) as shards:
        if plain.quantization is not None or any(name.endswith(".weight_packed") for name in shards.names):
            raise BadInput("checkpoint.quantised", f"{source} is quantised already", param=str(source))
        shards.check(layout.all_stored(plain))
        with destination(out) as partial:
            _copy_others(source, partial)
            write_json(partial / "config.json", document)
            _write_weights(shards, partial, packed, progress)


def packed_document(document: dict[str, Any]) -> dict[str, Any]:
    """config.json with the released quantization_config, at its released place."""
    return document | {"text_config": document["text_config"] | {"quantization_config": presets.QUANTIZATION}}


def _copy_others(source: Path, partial: Path) -> None:
    """The files of the directory itself that are neither weights nor written anew; links are followed."""
    for path in source.iterdir():
        if path.is_file() and path.suffix != ".safetensors" and path.name not in ("config.json", INDEX):
            shutil.copyfile(path, partial / path.name)


def _write_weights(shards: Shards, partial: Path, config: ModelConfig, progress: Progress | None) -> None:
    packed, dtype = layout.packed_by(config.quantization), layout.DTYPES[config.dtype]
    files: dict[int, Plan] = defaultdict(list)
    for entry in layout.entries(config):
        files[entry.shard].append((entry, layout.stored(entry, entry.linear and packed(entry.module), dtype)))
    total = sum(tensor.size_bytes for tensor in layout.all_stored(config))
    done = mapped = 0
    where: dict[str, str] = {}
    for shard, plan in sorted(files.items()):
        name = layout.shard_name(shard, layout.shard_count(config))
        tensors = [tensor for _, stored in plan for tensor in stored]
        where |= dict.fromkeys((tensor.name for tensor in tensors), name)
        with TensorFile(partial / name, tensors) as file:
            for entry, stored in plan:
                _write(file, shards, entry, stored)
                done += sum(tensor.size_bytes for tensor in stored)
                if progress:
                    progress(done, total)
                mapped += entry.count
                if mapped >= MAPPED:
                    shards.release()
                    mapped = 0
    write_json(partial / INDEX, index(where, total))


def _write(file: TensorFile, shards: Shards, entry: Entry, stored: list[Stored]) -> None:
    """One weight from the source, as the tensors that it becomes."""
    if len(stored) == 1:
        for piece in _pieces(shards.tensor(entry.name)):
            file.append(entry.name, piece.to(TORCH[stored[0].dtype]))
        return
    for piece in _pieces(shards.tensor(entry.name)):
        values, scale = quantize_int4_ref(piece)
        if not scale.isfinite().all():
            raise bad_checkpoint(shards.directory, [f"tensor {entry.name} is not finite"])
        file.append(f"{entry.module}.weight_packed", pack_int4_ref(values))
        file.append(f"{entry.module}.weight_scale", scale)
    file.append(f"{entry.module}.weight_shape", torch.tensor(entry.shape, dtype=torch.int32))


def _pieces(weight: Tensor) -> tuple[Tensor, ...]:
    """Some whole rows at a time: a group of INT4 never crosses a row."""
    return weight.split(max(PIECE * len(weight) // weight.numel(), 1))
