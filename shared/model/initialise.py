"""Making a checkpoint: random weights from a seed, written in the released layout, names and files.

Input: a config.json document, a seed, the tokenizer's files. Output: a directory that loads like a released one.
"""

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save_file
from torch import Tensor

from kernels.reference.int4 import pack_int4_ref, quantize_int4_ref
from shared.model import config as configuration
from shared.model import layout, presets
from shared.model.config import ModelConfig
from shared.model.destination import READABLE, destination, index, write_json
from shared.model.shards import INDEX
from shared.model.threads import one_thread

SMALL = 0.02


def initialise(
    out: Path, document: dict[str, Any], seed: int, *, vocabulary: bytes = b"", tokenizer_config: dict[str, Any] | None
) -> None:
    """Write the checkpoint ``out`` whole or not at all. Raises BadInput when ``out`` exists or cannot be written."""
    config = configuration.parse(msgspec.json.encode(document))
    with destination(out) as partial, one_thread():  # for thousands of small matrices threads cost more than they give
        _write_documents(partial, document, vocabulary, tokenizer_config)
        write_weights(partial, config, seed)


def write_weights(directory: Path, config: ModelConfig, seed: int) -> None:
    """One file per shard and the index. Each tensor depends on (seed, its name) only."""
    packed, count = layout.packed_by(config.quantization), layout.shard_count(config)
    by_shard: dict[int, list[layout.Entry]] = defaultdict(list)
    for entry in layout.entries(config):
        by_shard[entry.shard].append(entry)
    where: dict[str, str] = {}
    total = 0
    for shard, members in sorted(by_shard.items()):
        tensors: dict[str, Tensor] = {}
        for entry in members:
            tensors |= stored_weight(entry, random_weight(entry, seed), config, entry.linear and packed(entry.module))
        file = layout.shard_name(shard, count)
        save_file(tensors, directory / file, metadata={"format": "pt"})
        (directory / file).chmod(READABLE)  # safetensors writes for the owner alone
        where |= dict.fromkeys(tensors, file)
        total += sum(tensor.nbytes for tensor in tensors.values())
    write_json(directory / INDEX, index(where, total))


def random_weight(entry: layout.Entry, seed: int) -> Tensor:
    """float32. Matrices have standard deviation 1/sqrt(inputs), so that signals neither die nor explode; norms are
    near one; biases and tables are small."""
    key = hashlib.sha256(f"{seed}:{entry.name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
    noise = torch.randn(entry.shape, generator=generator)
    if entry.parameter == "weight" and len(entry.shape) == 1:
        return 1 + SMALL * noise
    if entry.parameter != "weight" or entry.module.endswith(("embed_tokens", "pos_emb")):
        return SMALL * noise
    return noise * (entry.count // entry.shape[0]) ** -0.5


def stored_weight(entry: layout.Entry, weight: Tensor, config: ModelConfig, packed: bool) -> dict[str, Tensor]:
    """A weight as the tensors that it is on disk."""
    if not packed:
        return {entry.name: weight if entry.float32 else weight.to(getattr(torch, config.dtype))}
    values, scale = quantize_int4_ref(weight)
    return {
        f"{entry.module}.weight_packed": pack_int4_ref(values),
        f"{entry.module}.weight_scale": scale,
        f"{entry.module}.weight_shape": torch.tensor(entry.shape, dtype=torch.int32),
    }


def _write_documents(
    directory: Path, document: dict[str, Any], vocabulary: bytes, tokenizer_config: dict[str, Any] | None
) -> None:
    write_json(directory / "config.json", document)
    write_json(directory / "preprocessor_config.json", presets.PREPROCESSOR)
    write_json(directory / "generation_config.json", presets.GENERATION)
    if vocabulary:
        (directory / "tiktoken.model").write_bytes(vocabulary)
    if tokenizer_config is not None:
        write_json(directory / "tokenizer_config.json", tokenizer_config)
