"""Random small networks of the released family, with random float32 weights, from a seed."""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import torch
from torch import nn

from shared.model import config as configuration
from shared.model import presets
from shared.model.initialise import random_weight
from shared.model.layout import entries
from shared.model.network import Network, build

RANKS = 256


def random_document(seed: int) -> dict[str, Any]:
    """config.json of the released shape with YaRN factor 64 and other sizes, without quantisation."""
    rng = random.Random(seed)
    document = msgspec.json.decode(msgspec.json.encode(presets.document("tiny", RANKS)))
    heads, hidden, inner = rng.choice([1, 2, 4]), rng.choice([64, 96, 128]), rng.choice([32, 64])
    experts = rng.choice([4, 7, 16])
    document["dtype"] = "float32"
    del document["text_config"]["quantization_config"]
    document["text_config"] |= {
        "num_hidden_layers": rng.choice([2, 3, 4]),
        "first_k_dense_replace": rng.choice([0, 1, 2]),
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "q_lora_rank": rng.choice([24, 48, None]),
        "kv_lora_rank": rng.choice([16, 40]),
        "qk_nope_head_dim": rng.choice([8, 24]),
        "qk_rope_head_dim": rng.choice([8, 16, 64]),
        "v_head_dim": rng.choice([8, 20]),
        "intermediate_size": 3 * inner,
        "moe_intermediate_size": inner,
        "n_routed_experts": experts,
        "n_shared_experts": rng.choice([1, 2]),
        "num_experts_per_tok": rng.randint(1, min(experts, 4)),
        "norm_topk_prob": rng.choice([True, True, False]),
        "routed_scaling_factor": rng.choice([1.0, 2.827]),
    }
    vision_heads = rng.choice([2, 3, 4])
    width = vision_heads * rng.choice([8, 12, 16])  # a norm over fewer than 16 channels is ill-conditioned by itself
    document["vision_config"] |= {
        "text_hidden_size": hidden,
        "mm_hidden_size": width,
        "vt_hidden_size": width,
        "vt_num_attention_heads": vision_heads,
        "vt_num_hidden_layers": rng.choice([1, 2, 3]),
        "vt_intermediate_size": 2 * width,
    }
    return document


def random_vl_document(seed: int) -> dict[str, Any]:
    """The same sizes as a Kimi-VL directory: no query rank, two shared experts, plain rotary, two-dimensional tower."""
    document = random_document(seed)
    text, vision = document["text_config"], document["vision_config"]
    shape = presets.document("tiny-vl", RANKS)
    text |= {name: shape["text_config"][name] for name in ("model_type", "q_lora_rank", "rope_scaling", "rope_theta")}
    text |= {"n_shared_experts": 2, "routed_scaling_factor": 2.446}
    tower = {name: vision.get(f"vt_{name}", value) for name, value in shape["vision_config"].items()}
    return shape | {"dtype": "float32", "text_config": text, "vision_config": tower}


def random_network(seed: int, document: Callable[[int], dict[str, Any]] = random_document) -> Network:
    network = build(configuration.parse(msgspec.json.encode(document(seed))))
    modules: dict[str, nn.Module] = dict(network.named_modules())
    for entry in entries(network.config):
        value = random_weight(entry, seed)
        if entry.float32:
            modules[entry.module].register_buffer(entry.parameter, value)
        else:
            setattr(modules[entry.module], entry.parameter, nn.Parameter(value, requires_grad=False))
    return network


def random_ids(count: int, vocabulary: int, seed: int) -> torch.Tensor:
    return torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(seed))


def random_patches(grid: tuple[int, int, int], seed: int) -> torch.Tensor:
    """uint8 [t*h*w, 3, 14, 14]."""
    shape = (grid[0] * grid[1] * grid[2], 3, 14, 14)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
