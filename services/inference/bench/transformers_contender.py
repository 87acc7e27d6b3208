"""transformers' ``deepseek_v3`` in bfloat16 with the dequantised weights: the plain way to run this model in torch."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

from services.inference.bench.released_weights import text_weights
from services.inference.bench.works import CONTEXT_TOKENS, chosen_experts, prompt
from shared.model import config as configuration
from shared.model.config import TextConfig


class TransformersContender:
    def __init__(self, directory: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self._config = configuration.load(directory).text
        torch.set_default_dtype(torch.bfloat16)
        self._model = DeepseekV3ForCausalLM(_config(self._config)).eval()
        torch.set_default_dtype(torch.float32)
        self._fill(directory)

    def decode(self, sequences: int, steps: int) -> float:
        ids = torch.tensor([prompt(CONTEXT_TOKENS, one, self._config.vocab_size) for one in range(sequences)])
        answer = self._model(ids, use_cache=True, logits_to_keep=1)
        started = time.perf_counter()
        for _ in range(steps):
            ids = answer.logits[:, -1].argmax(-1, keepdim=True)
            answer = self._model(ids, past_key_values=answer.past_key_values, use_cache=True)
        return time.perf_counter() - started

    def prefill(self, tokens: int) -> float:
        ids = torch.tensor([prompt(tokens, 0, self._config.vocab_size)])
        started = time.perf_counter()
        self._model(ids, use_cache=True, logits_to_keep=1)
        return time.perf_counter() - started

    def experts(self, rows: int, calls: int) -> float:
        config = self._config
        layer: Any = self._model.model.layers[config.first_k_dense_replace]
        experts = layer.mlp.experts
        x = torch.randn(rows, config.hidden_size, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
        chosen = [
            torch.tensor([chosen_experts(call, config.num_experts_per_tok, config.n_routed_experts)] * rows)
            for call in range(calls)
        ]
        weights = torch.full((rows, config.num_experts_per_tok), 1 / config.num_experts_per_tok, dtype=torch.bfloat16)
        started = time.perf_counter()
        for indices in chosen:
            experts(x, indices, weights)
        return time.perf_counter() - started

    def logits(self, ids: list[int]) -> list[float]:
        return self._model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1].float().tolist()

    def _fill(self, directory: Path) -> None:
        """Expert by expert into the two tensors that transformers holds per layer."""
        state: dict[str, Tensor] = dict(self._model.state_dict())
        inner = self._config.moe_intermediate_size
        for name, weight in text_weights(directory):
            before, found, rest = name.partition(".experts.")
            if not found:
                state[name].copy_(weight)
                continue
            expert, kind = int(rest.split(".")[0]), rest.split(".")[1]
            if kind == "down_proj":
                state[f"{before}.experts.down_proj"][expert].copy_(weight)
                continue
            half = slice(0, inner) if kind == "gate_proj" else slice(inner, 2 * inner)
            state[f"{before}.experts.gate_up_proj"][expert, half].copy_(weight)


def _config(config: TextConfig) -> DeepseekV3Config:
    rope: dict[str, Any] = {"rope_type": "default"}
    if config.yarn is not None:
        rope = {name: getattr(config.yarn, name) for name in config.yarn.__struct_fields__} | {"rope_type": "yarn"}
    values: dict[str, Any] = {name: getattr(config, name) for name in config.__struct_fields__ if name != "yarn"}
    theta = values.pop("rope_theta")
    return DeepseekV3Config(
        **values,
        n_group=1,
        topk_group=1,
        num_key_value_heads=config.num_attention_heads,
        num_mtp_layers=0,
        rope_parameters=rope | {"rope_theta": theta},
    )
