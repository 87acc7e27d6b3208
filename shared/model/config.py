"""A checkpoint's ``config.json`` as checked structs: what the network needs, and nothing that it cannot honour.

Input: the released JSON of K2.5, K2.6 or Kimi-VL in either spelling (``kimi_k2`` or ``deepseek_v3``, ``rope_scaling``
or ``rope_parameters``, ``type`` or ``rope_type``, ``vt_hidden_size`` or ``hidden_size`` of the tower,
``quantization_config`` at the top or inside the text). Output: ``ModelConfig``.
A field or value that would change the result and is not understood is refused by name with ``BadInput``.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from shared.errors import BadInput
from shared.model.fields import refuse_unknown, spelled

Positive = Annotated[int, msgspec.Meta(ge=1)]
Factor = Annotated[float, msgspec.Meta(gt=0)]
Family = Literal["kimi_k25", "kimi_vl"]
"""``model_type``: K2.5 and K2.6, or Kimi-VL. They differ in the tower's sense of time and in the projector's names."""


class YarnConfig(msgspec.Struct, frozen=True, kw_only=True):
    """YaRN as DeepSeek-V3 releases it (arXiv 2309.00071; ``modeling_deepseek.py``)."""

    factor: Factor
    original_max_position_embeddings: Positive
    beta_fast: Factor = 32.0
    beta_slow: Factor = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 0.0


class TextConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The language model: multi-head latent attention and a sigmoid-routed mixture of experts."""

    num_hidden_layers: Positive
    hidden_size: Positive
    num_attention_heads: Positive
    q_lora_rank: Positive | None
    kv_lora_rank: Positive
    qk_nope_head_dim: Positive
    qk_rope_head_dim: Positive
    v_head_dim: Positive
    intermediate_size: Positive
    moe_intermediate_size: Positive
    first_k_dense_replace: Annotated[int, msgspec.Meta(ge=0)]
    n_routed_experts: Positive
    n_shared_experts: Annotated[int, msgspec.Meta(ge=0)]
    num_experts_per_tok: Positive
    routed_scaling_factor: float
    norm_topk_prob: bool
    rms_norm_eps: Factor
    vocab_size: Positive
    max_position_embeddings: Positive
    rope_theta: Factor
    yarn: YarnConfig | None = None

    @property
    def qk_head_dim(self) -> int:
        return self.qk_nope_head_dim + self.qk_rope_head_dim

    def is_dense(self, layer: int) -> bool:
        return layer < self.first_k_dense_replace


class VisionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """MoonViT and its projector. ``position_time`` is the most frames of one item: 1 in the tower of Kimi-VL."""

    patch_size: Positive
    hidden_size: Positive
    num_hidden_layers: Positive
    num_attention_heads: Positive
    intermediate_size: Positive
    position_height: Positive
    position_width: Positive
    position_time: Positive
    merge_height: Positive
    merge_width: Positive
    projector_eps: Factor

    @property
    def merged_size(self) -> int:
        """Width of what the projector's first layer sees: the patches of one merged square side by side."""
        return self.hidden_size * self.merge_height * self.merge_width


class QuantizationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """INT4 ``pack-quantized`` group-32 for linear layers of the language model that ``ignore`` does not match."""

    ignore: tuple[str, ...] = ()


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    text: TextConfig
    vision: VisionConfig | None
    quantization: QuantizationConfig | None
    dtype: Literal["bfloat16", "float16", "float32"]
    media_placeholder_token_id: int | None
    eos_token_ids: tuple[int, ...]
    family: Family = "kimi_k25"


TEXT_REQUIRED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "scoring_func": ("sigmoid",),
    "topk_method": ("noaux_tc",),
    "n_group": (1, None),
    "topk_group": (1, None),
    "moe_layer_freq": (1,),
    "attention_bias": (False,),
    "tie_word_embeddings": (False,),
    "num_nextn_predict_layers": (0,),
    "rope_interleave": (True,),
}
"""The only values that the network honours; absent means the first."""

VISION_REQUIRED: dict[Family, dict[str, tuple[Any, ...]]] = {
    "kimi_k25": {
        "pos_emb_type": ("divided_fixed",),
        "merge_type": ("sd2_tpool",),
        "video_attn_type": ("spatial_temporal",),
        "mm_projector_type": ("patchmerger",),
        "projector_hidden_act": ("gelu",),
    },
    "kimi_vl": {},
}

VISION_FIXED: dict[Family, dict[str, Any]] = {"kimi_k25": {}, "kimi_vl": {"position_time": 1, "projector_eps": 1e-5}}
"""What a family does not put into its configuration: the released Kimi-VL code has these two as constants."""

WEIGHTS_REQUIRED: dict[str, tuple[Any, ...]] = {
    "num_bits": (4,),
    "type": ("int",),
    "symmetric": (True,),
    "strategy": ("group",),
    "group_size": (32,),
    "dynamic": (False,),
    "actorder": (None,),
}


def load(directory: Path) -> ModelConfig:
    """The configuration of a checkpoint directory. Raises BadInput naming the file and what is wrong in it."""
    path = directory / "config.json"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput("checkpoint.no_config", f"cannot read {path}: {error.strerror}", param="config.json") from error
    return parse(data)


def parse(data: bytes) -> ModelConfig:
    """``config.json`` bytes as a checked configuration. Raises BadInput (``checkpoint.bad_config``)."""
    try:
        document = msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise refusal(f"config.json is not a JSON object: {error}") from error
    kind: Any = document.get("model_type")
    if kind not in get_args(Family):
        raise refusal(f"model_type {kind!r} is not served: expected one of {', '.join(get_args(Family))}")
    text = _section(document, "text_config")
    vision = _section(document, "vision_config")
    config = ModelConfig(
        text=_text(text, kind),
        vision=_vision(vision, kind),
        quantization=_quantization(document.get("quantization_config") or text.get("quantization_config")),
        dtype=document.get("dtype") or document.get("torch_dtype") or "bfloat16",
        media_placeholder_token_id=document.get("media_placeholder_token_id"),
        eos_token_ids=_ids(document.get("eos_token_id", text.get("eos_token_id"))),
        family=kind,
    )
    check(config, vision.get("text_hidden_size"))
    return config


def check(config: ModelConfig, text_hidden_size: int | None = None) -> None:
    """What must hold between fields. Raises BadInput naming the fields."""
    text, vision = config.text, config.vision
    if text.num_experts_per_tok > text.n_routed_experts:
        raise refusal("num_experts_per_tok is larger than n_routed_experts")
    if text.qk_rope_head_dim % 2:
        raise refusal("qk_rope_head_dim must be even")
    if vision and vision.hidden_size % (4 * vision.num_attention_heads):
        raise refusal("vision_config: hidden size / attention heads must be divisible by 4 for the 2-D rotary")
    if text_hidden_size not in (None, text.hidden_size):
        raise refusal(f"vision_config.text_hidden_size={text_hidden_size} differs from hidden_size={text.hidden_size}")
    if config.dtype not in ("bfloat16", "float16", "float32"):
        raise refusal(f"dtype={config.dtype!r} is not understood")


def refusal(message: str) -> BadInput:
    return BadInput("checkpoint.bad_config", message, param="config.json")


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name)
    if not isinstance(section, dict):
        raise refusal(f"config.json has no object {name}")
    return section


def _text(section: dict[str, Any], family: Family) -> TextConfig:
    default = "deepseek_v3" if family == "kimi_vl" else None
    if section.get("model_type", default) not in ("kimi_k2", "deepseek_v3"):
        raise refusal(f"text_config.model_type={section.get('model_type')!r} is not served")
    rope = spelled(section, "rope_scaling", "rope_parameters") or {}
    values = dict(section, rope_theta=section.get("rope_theta", rope.get("rope_theta")))
    values["yarn"] = _yarn(rope)
    if section.get("num_key_value_heads") not in (None, section.get("num_attention_heads")):
        raise refusal("text_config.num_key_value_heads must equal num_attention_heads (latent attention)")
    refuse_unknown("text_config", section, {field.name for field in msgspec.structs.fields(TextConfig)}, TEXT_REQUIRED)
    return _convert("text_config", values, TextConfig)


def _yarn(rope: dict[str, Any]) -> dict[str, Any] | None:
    kind = spelled(rope, "type", "rope_type") or "default"
    if kind == "default":
        return None
    if kind != "yarn":
        raise refusal(f"rope type {kind!r} is not understood: expected 'yarn'")
    known = {field.name for field in msgspec.structs.fields(YarnConfig)} | {"type", "rope_type", "rope_theta"}
    unknown = sorted(name for name, value in rope.items() if name not in known and value is not None)
    if unknown:
        raise refusal(f"rope parameters {', '.join(unknown)} are not understood")
    return {name: value for name, value in rope.items() if value is not None}


VISION_NAMES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("vt_hidden_size", "hidden_size"),
    "num_hidden_layers": ("vt_num_hidden_layers", "num_hidden_layers"),
    "num_attention_heads": ("vt_num_attention_heads", "num_attention_heads"),
    "intermediate_size": ("vt_intermediate_size", "intermediate_size"),
    "position_height": ("init_pos_emb_height",),
    "position_width": ("init_pos_emb_width",),
    "position_time": ("init_pos_emb_time",),
    "projector_eps": ("projector_ln_eps",),
}
"""Our field: the released ones."""


def _vision(section: dict[str, Any], family: Family) -> VisionConfig:
    fixed = VISION_FIXED[family]
    names = {ours: released for ours, released in VISION_NAMES.items() if ours not in fixed}
    values = fixed | {ours: _one_of(section, released) for ours, released in names.items()}
    merge = section.get("merge_kernel_size") or [None, None]
    values |= {"patch_size": section.get("patch_size"), "merge_height": merge[0], "merge_width": merge[-1]}
    also = [name for released in names.values() for name in released]
    also += ["merge_kernel_size", "mm_hidden_size", "text_hidden_size"]
    refuse_unknown("vision_config", section, {"patch_size", *also}, VISION_REQUIRED[family])
    if section.get("mm_hidden_size") not in (None, values["hidden_size"]):
        raise refusal("vision_config.mm_hidden_size must equal vt_hidden_size")
    return _convert("vision_config", values, VisionConfig)


def _one_of(section: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The value under either name. Raises BadInput when both are there and differ."""
    values = [section[name] for name in names if section.get(name) is not None]
    if any(value != values[0] for value in values):
        raise refusal(f"vision_config: {' and '.join(names)} differ")
    return values[0] if values else None


def _quantization(section: dict[str, Any] | None) -> QuantizationConfig | None:
    if not section:
        return None
    if section.get("format") != "pack-quantized" or section.get("quant_method") != "compressed-tensors":
        raise refusal(f"quantization_config.format={section.get('format')!r} is not understood")
    groups = section.get("config_groups") or {}
    if len(groups) != 1:
        raise refusal("quantization_config.config_groups must hold exactly one group")
    (group,) = groups.values()
    if group.get("targets") != ["Linear"] or group.get("input_activations") or group.get("output_activations"):
        raise refusal("quantization_config: only weights of targets ['Linear'] are understood")
    weights = group.get("weights") or {}
    for name, allowed in WEIGHTS_REQUIRED.items():
        if weights.get(name, allowed[0]) not in allowed:
            raise refusal(f"quantization_config.weights.{name}={weights[name]!r} is not understood")
    return _convert("quantization_config", {"ignore": section.get("ignore") or []}, QuantizationConfig)


def _ids(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (value,)


def _convert(section: str, values: dict[str, Any], kind: type[Any]) -> Any:
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise refusal(f"{section}: {error}") from error
