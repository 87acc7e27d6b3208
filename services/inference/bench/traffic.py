"""Bytes of weights that one unit of work has to read, however fast it computes. Pure.

Input: configuration and work. Output: bytes per token or row. Experts are counted once per forward, as many as even
routing touches (``Routing.touched``); activations and cache are left out. A matrix that is held in fewer bits than the
checkpoint has counts with these.
"""

from services.inference.bench.works import Work
from shared.model.config import ModelConfig
from shared.model.decode import Routing
from shared.model.layout import DTYPES, TEXT, Entry, entries, packed_by, stored

BF12_SHARE = 12 / 16


def bytes_per_unit(config: ModelConfig, work: Work, *, holds_bf12: bool = False) -> float:
    text = config.text
    routed = [entry for entry in entries(config) if ".mlp.experts." in entry.name]
    layers = text.num_hidden_layers - text.first_k_dense_replace
    one_expert = sum(_bytes(config, entry) for entry in routed) / max(1, layers * text.n_routed_experts)
    if work.kind == "experts":
        return text.num_experts_per_tok * one_expert
    trunk = sum(
        _bytes(config, entry) * (BF12_SHARE if holds_bf12 and _is_bf16_matrix(config, entry) else 1)
        for entry in entries(config)
        if _is_trunk(entry)
    )
    routing = Routing(
        experts=text.n_routed_experts, chosen=text.num_experts_per_tok, layers=layers, expert_bytes=one_expert
    )
    return (trunk + layers * routing.touched(work.rows) * one_expert) / work.rows


def _is_trunk(entry: Entry) -> bool:
    """Read whole in every forward: everything of the language model but routed experts and embeddings."""
    return (
        entry.module.startswith(TEXT)
        and ".mlp.experts." not in entry.name
        and not entry.module.endswith("embed_tokens")
    )


def _is_bf16_matrix(config: ModelConfig, entry: Entry) -> bool:
    return len(entry.shape) == 2 and not entry.float32 and not _is_packed(config, entry) and config.dtype == "bfloat16"


def _is_packed(config: ModelConfig, entry: Entry) -> bool:
    return entry.linear and packed_by(config.quantization)(entry.module)


def _bytes(config: ModelConfig, entry: Entry) -> int:
    return sum(tensor.size_bytes for tensor in stored(entry, _is_packed(config, entry), DTYPES[config.dtype]))
