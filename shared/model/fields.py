"""Which fields of a released ``config.json`` may be passed over: those that cannot change a logit.

Input: one JSON object of the configuration. It must not know what the fields that matter mean.
"""

from collections.abc import Collection
from typing import Any

from shared.errors import BadInput

HARMLESS = frozenset(
    {
        "_attn_implementation",
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "auto_map",
        "aux_loss_alpha",
        "bos_token_id",
        "chunk_size_feed_forward",
        "diversity_penalty",
        "dtype",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "eos_token_id",
        "ep_size",
        "head_dim",
        "id2label",
        "ignore_index",
        "initializer_range",
        "is_encoder_decoder",
        "label2id",
        "length_penalty",
        "max_length",
        "max_window_layers",
        "min_length",
        "model_type",
        "moe_aux_loss_coeff",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_experts_per_device",
        "num_key_value_heads",
        "num_return_sequences",
        "output_router_logits",
        "pad_token_id",
        "prefix",
        "pretraining_tp",
        "problem_type",
        "qk_head_dim",
        "quantization_config",
        "repetition_penalty",
        "return_dict",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "seq_aux",
        "temperature",
        "tie_encoder_decoder",
        "top_k",
        "top_p",
        "torch_dtype",
        "transformers_version",
        "typical_p",
        "unsloth_version",
        "use_cache",
    }
)
"""Training, generation defaults, bookkeeping of transformers, and what is read under another name."""


def spelled(section: dict[str, Any], *names: str) -> Any:
    """The value under the first of several spellings that is there."""
    return next((section[name] for name in names if section.get(name) is not None), None)


def refuse_unknown(
    name: str, section: dict[str, Any], understood: Collection[str], required: dict[str, tuple[Any, ...]]
) -> None:
    """Raise BadInput naming the first field that is set and that ``understood``, ``required`` and HARMLESS do not know,
    or whose value is not among the ``required`` ones."""
    for field, value in section.items():
        if field in required:
            if value not in required[field]:
                raise _refusal(f"{name}.{field}={value!r} is not understood: expected {required[field][0]!r}")
        elif field not in HARMLESS and field not in understood and value not in (None, False, "", [], {}):
            raise _refusal(f"{name}.{field}={value!r} is not understood and may change the result")


def _refusal(message: str) -> BadInput:
    return BadInput("checkpoint.bad_config", message, param="config.json")
