"""The released tensor names and shapes, derived from a configuration: one table for loading, making and inspecting.

Input: ``ModelConfig``. Output: ``Entry`` per weight, and ``Stored`` per tensor as it lies on disk (a linear layer in
INT4 is three tensors). Source: the tensor listing of the released Kimi-K2.5; for Kimi-VL the parameter names of vLLM's
``kimi_vl.py`` and ``moonvit.py``, which load the released files as they are.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kernels.formats import int4_shapes
from shared.model.config import Family, ModelConfig, QuantizationConfig, TextConfig, VisionConfig

SIZES = {"BF16": 2, "F16": 2, "F32": 4, "I32": 4}
"""Bytes per element of the stored types, in safetensors' words."""

DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}

TEXT = "language_model."
VISION = "vision_tower."
PROJECTOR: dict[Family, tuple[str, str, str]] = {
    "kimi_k25": ("mm_projector.pre_norm", "mm_projector.proj.0", "mm_projector.proj.2"),
    "kimi_vl": ("multi_modal_projector.pre_norm", "multi_modal_projector.linear_1", "multi_modal_projector.linear_2"),
}
"""Norm, first and second layer."""


@dataclass(frozen=True)
class Entry:
    """One weight. ``shard`` counts files from 1. A ``linear`` may be stored as ``.weight`` or in INT4."""

    module: str
    parameter: str
    shape: tuple[int, ...]
    shard: int
    linear: bool = False
    float32: bool = False

    @property
    def name(self) -> str:
        return f"{self.module}.{self.parameter}"

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Stored:
    """One tensor on disk."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    shard: int

    @property
    def element_bytes(self) -> int:
        return SIZES[self.dtype]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.element_bytes


Packed = Callable[[str], bool]
"""Whether the linear layer with this module name is stored in INT4."""


def entries(config: ModelConfig) -> Iterator[Entry]:
    """Every weight, in the order of the released files: layer i in file i + 1, then head, projector, tower."""
    after = config.text.num_hidden_layers
    for layer in range(after):
        yield from _decoder_layer(config.text, layer, layer + 1)
    yield from _text_ends(config.text, after + 1)
    if config.vision is not None:
        yield from _projector(config, config.vision, after + 2)
        yield from _tower(config.vision, after + 3)


def shard_count(config: ModelConfig) -> int:
    return config.text.num_hidden_layers + (3 if config.vision is not None else 1)


def shard_name(number: int, count: int) -> str:
    """``model-00001-of-000064.safetensors``: five digits of six, as released."""
    return f"model-{number:05d}-of-{count:06d}.safetensors"


def stored(entry: Entry, packed: bool, dtype: str) -> list[Stored]:
    """The tensors on disk of one weight; ``dtype`` in safetensors' words."""
    if not packed:
        return [Stored(entry.name, entry.shape, "F32" if entry.float32 else dtype, entry.shard)]
    rows, columns = entry.shape
    shapes = int4_shapes(rows, columns)
    return [
        Stored(f"{entry.module}.weight_packed", shapes.packed, "I32", entry.shard),
        Stored(f"{entry.module}.weight_scale", shapes.scale, "BF16", entry.shard),
        Stored(f"{entry.module}.weight_shape", shapes.shape, "I32", entry.shard),
    ]


def all_stored(config: ModelConfig) -> Iterator[Stored]:
    """Every tensor on disk of a checkpoint that follows its own quantization_config."""
    packed = packed_by(config.quantization)
    for entry in entries(config):
        yield from stored(entry, entry.linear and packed(entry.module), DTYPES[config.dtype])


def packed_by(quantization: QuantizationConfig | None) -> Packed:
    """Which linear layers a quantization_config packs: those of the language model that no ``ignore`` matches.

    compressed-tensors' rule: ``re:`` patterns match from the start of the name, others are whole names; names are
    relative to the language model, where the released configuration lives.
    """
    if quantization is None:
        return lambda module: False
    patterns = [re.compile(item.removeprefix("re:")) for item in quantization.ignore if item.startswith("re:")]
    plain = frozenset(item for item in quantization.ignore if not item.startswith("re:"))

    def packed(module: str) -> bool:
        if not module.startswith(TEXT):
            return False
        name = module.removeprefix(TEXT)
        return not ({module, name} & plain or any(pattern.match(name) for pattern in patterns))

    return packed


def _decoder_layer(config: TextConfig, layer: int, shard: int) -> Iterator[Entry]:
    prefix, hidden = f"{TEXT}model.layers.{layer}", config.hidden_size
    yield Entry(f"{prefix}.input_layernorm", "weight", (hidden,), shard)
    yield from _attention(config, f"{prefix}.self_attn", shard)
    yield Entry(f"{prefix}.post_attention_layernorm", "weight", (hidden,), shard)
    if config.is_dense(layer):
        yield from _swiglu(f"{prefix}.mlp", hidden, config.intermediate_size, shard)
        return
    yield Entry(f"{prefix}.mlp.gate", "weight", (config.n_routed_experts, hidden), shard)
    yield Entry(f"{prefix}.mlp.gate", "e_score_correction_bias", (config.n_routed_experts,), shard, float32=True)
    for expert in range(config.n_routed_experts):
        yield from _swiglu(f"{prefix}.mlp.experts.{expert}", hidden, config.moe_intermediate_size, shard)
    if config.n_shared_experts:
        inner = config.moe_intermediate_size * config.n_shared_experts
        yield from _swiglu(f"{prefix}.mlp.shared_experts", hidden, inner, shard)


def _attention(config: TextConfig, prefix: str, shard: int) -> Iterator[Entry]:
    hidden, heads, rank = config.hidden_size, config.num_attention_heads, config.kv_lora_rank
    if config.q_lora_rank is None:
        yield _linear(f"{prefix}.q_proj", heads * config.qk_head_dim, hidden, shard)
    else:
        yield _linear(f"{prefix}.q_a_proj", config.q_lora_rank, hidden, shard)
        yield Entry(f"{prefix}.q_a_layernorm", "weight", (config.q_lora_rank,), shard)
        yield _linear(f"{prefix}.q_b_proj", heads * config.qk_head_dim, config.q_lora_rank, shard)
    yield _linear(f"{prefix}.kv_a_proj_with_mqa", rank + config.qk_rope_head_dim, hidden, shard)
    yield Entry(f"{prefix}.kv_a_layernorm", "weight", (rank,), shard)
    yield _linear(f"{prefix}.kv_b_proj", heads * (config.qk_nope_head_dim + config.v_head_dim), rank, shard)
    yield _linear(f"{prefix}.o_proj", hidden, heads * config.v_head_dim, shard)


def _swiglu(prefix: str, hidden: int, inner: int, shard: int) -> Iterator[Entry]:
    yield _linear(f"{prefix}.gate_proj", inner, hidden, shard)
    yield _linear(f"{prefix}.up_proj", inner, hidden, shard)
    yield _linear(f"{prefix}.down_proj", hidden, inner, shard)


def _text_ends(config: TextConfig, shard: int) -> Iterator[Entry]:
    yield _linear(f"{TEXT}lm_head", config.vocab_size, config.hidden_size, shard)
    yield Entry(f"{TEXT}model.embed_tokens", "weight", (config.vocab_size, config.hidden_size), shard)
    yield Entry(f"{TEXT}model.norm", "weight", (config.hidden_size,), shard)


def _projector(config: ModelConfig, vision: VisionConfig, shard: int) -> Iterator[Entry]:
    norm, first, second = PROJECTOR[config.family]
    merged = vision.merged_size
    yield from _biased(norm, (vision.hidden_size,), shard)
    yield from _biased(first, (merged, merged), shard)
    yield from _biased(second, (config.text.hidden_size, merged), shard)


def _tower(config: VisionConfig, shard: int) -> Iterator[Entry]:
    size, inner, patch = config.hidden_size, config.intermediate_size, config.patch_size
    yield from _biased(f"{VISION}patch_embed.proj", (size, 3, patch, patch), shard)
    table = (config.position_height, config.position_width, size)
    yield Entry(f"{VISION}patch_embed.pos_emb", "weight", table, shard)
    for block in range(config.num_hidden_layers):
        prefix = f"{VISION}encoder.blocks.{block}"
        shapes = {"norm0": (size,), "norm1": (size,), "wqkv": (3 * size, size), "wo": (size, size)}
        shapes |= {"mlp.fc0": (inner, size), "mlp.fc1": (size, inner)}
        for module, shape in shapes.items():
            yield from _biased(f"{prefix}.{module}", shape, shard)
    yield from _biased(f"{VISION}encoder.final_layernorm", (size,), shard)


def _linear(module: str, rows: int, columns: int, shard: int) -> Entry:
    return Entry(module, "weight", (rows, columns), shard, linear=True)


def _biased(module: str, shape: tuple[int, ...], shard: int) -> Iterator[Entry]:
    yield Entry(module, "weight", shape, shard)
    yield Entry(module, "bias", shape[:1], shard)
