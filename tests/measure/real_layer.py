"""A checkpoint of one decoder layer with the released widths, written tensor by tensor.

Input: a directory. Output: config.json, safetensors files and their index. Packed words are drawn as they are: any
32 bits are eight INT4 values. Never more than one tensor is in memory.
"""

import json
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from shared.model import config as configuration
from shared.model import layout, presets
from shared.model.config import ModelConfig
from shared.model.initialise import random_weight, stored_weight
from shared.model.layout import Entry, Stored
from shared.model.shards import INDEX

RELEASED_WIDTHS: dict[str, Any] = {
    "first_k_dense_replace": 0,
    "hidden_size": 7168,
    "intermediate_size": 18_432,
    "kv_lora_rank": 512,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 384,
    "num_attention_heads": 64,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 1,
    "num_key_value_heads": 64,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}
RANKS = 512
SEED = 1
MEAN_SQUARE = 21.5
"""Of the values -8 to 7, each as likely as the others."""


def write_checkpoint(directory: Path, **text: Any) -> int:
    """Bytes of tensors written; ``text`` replaces fields of the text configuration."""
    document = presets.document("tiny", RANKS)
    document["text_config"] |= RELEASED_WIDTHS | text
    document["vision_config"] = document["vision_config"] | {"text_hidden_size": document["text_config"]["hidden_size"]}
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(document))
    return write_weights(directory, configuration.parse(msgspec.json.encode(document)))


def write_weights(directory: Path, config: ModelConfig) -> int:
    packed, count = layout.packed_by(config.quantization), layout.shard_count(config)
    by_file: dict[str, list[tuple[Entry, list[Stored]]]] = defaultdict(list)
    for entry in layout.entries(config):
        tensors = layout.stored(entry, entry.linear and packed(entry.module), layout.DTYPES[config.dtype])
        by_file[layout.shard_name(entry.shard, count)].append((entry, tensors))
    where: dict[str, str] = {}
    for file, plan in by_file.items():
        stored = [tensor for _, tensors in plan for tensor in tensors]
        write_file(directory / file, stored, _tensors(plan, config))
        where |= {tensor.name: file for tensor in stored}
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def write_file(path: Path, stored: list[Stored], tensors: Iterable[Tensor]) -> None:
    """The safetensors format: length of the header (u64, little-endian), JSON header, then the tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in stored:
        start, end = end, end + tensor.size_bytes
        header[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in tensors:
            file.write(value.contiguous().view(torch.uint8).numpy().data)


def _tensors(plan: list[tuple[Entry, list[Stored]]], config: ModelConfig) -> Iterator[Tensor]:
    rng = np.random.default_rng(SEED)
    for entry, stored in plan:
        if len(stored) > 1:
            yield from random_packed(entry, stored, rng)
        else:
            yield from stored_weight(entry, random_weight(entry, SEED), config, packed=False).values()


def random_packed(entry: Entry, stored: list[Stored], rng: np.random.Generator) -> Iterator[Tensor]:
    """Words, scales, shape; the scale gives the dequantised matrix a standard deviation of about 1/sqrt(inputs)."""
    words, scales, _ = stored
    yield torch.frombuffer(bytearray(rng.bytes(words.size_bytes)), dtype=torch.int32)
    scale = (MEAN_SQUARE * entry.shape[1]) ** -0.5
    yield torch.full(scales.shape, scale, dtype=torch.bfloat16)
    yield torch.tensor(entry.shape, dtype=torch.int32)
