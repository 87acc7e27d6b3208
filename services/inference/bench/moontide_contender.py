"""This project's model on its pages, as a shard runs it: forward, logits, the likeliest token."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import kernels
from services.inference.bench.works import CONTEXT_TOKENS, chosen_experts, prompt
from shared.model.batch import ForwardBatch, Segment
from shared.model.checkpoint import load
from shared.model.pages import PAGE, PagePool
from shared.model.part import Part

SLICE_TOKENS = 256


class MoontideContender:
    def __init__(self, directory: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        kernels.set_threads(threads)
        self._text = load(directory, dtype=torch.bfloat16, part=Part(vision=False)).network.language_model

    def decode(self, sequences: int, steps: int) -> float:
        pages = -(-(CONTEXT_TOKENS + steps) // PAGE)
        pool = self._pool(sequences * pages)
        tables = [list(range(one * pages, (one + 1) * pages)) for one in range(sequences)]
        with torch.inference_mode():
            ids = torch.cat([self._prompt(CONTEXT_TOKENS, one, tables[one], pool) for one in range(sequences)])
            started = time.perf_counter()
            for step in range(steps):
                segments = [Segment(CONTEXT_TOKENS + step, 1, table) for table in tables]
                ids = self._next(ids, ForwardBatch(segments), pool)
            return time.perf_counter() - started

    def prefill(self, tokens: int) -> float:
        table = list(range(-(-tokens // PAGE)))
        pool = self._pool(len(table))
        with torch.inference_mode():
            started = time.perf_counter()
            self._prompt(tokens, 0, table, pool)
            return time.perf_counter() - started

    def experts(self, rows: int, calls: int) -> float:
        config = self._text.config
        layer: Any = self._text.model.layers[config.first_k_dense_replace]
        x = torch.randn(rows, config.hidden_size, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
        chosen = [
            torch.tensor([chosen_experts(call, config.num_experts_per_tok, config.n_routed_experts)] * rows)
            for call in range(calls)
        ]
        weights = layer.mlp.ready
        with torch.inference_mode():
            started = time.perf_counter()
            for indices in chosen:
                kernels.experts(x, indices, weights)
            return time.perf_counter() - started

    def logits(self, ids: list[int]) -> list[float]:
        table = list(range(-(-len(ids) // PAGE)))
        with torch.inference_mode():
            return self._logits(ids, table, self._pool(len(table)))[0].tolist()

    def _pool(self, pages: int) -> PagePool:
        text = self._text
        return PagePool(text.config, text.config.num_hidden_layers, pages, text.dtype, text.device)

    def _prompt(self, tokens: int, sequence: int, table: list[int], pool: PagePool) -> Tensor:
        return self._logits(prompt(tokens, sequence, self._text.config.vocab_size), table, pool).argmax(-1)

    def _logits(self, ids: list[int], table: list[int], pool: PagePool) -> Tensor:
        """[1, W] after a prompt that is computed in slices."""
        hidden = torch.empty(0)
        for first in range(0, len(ids), SLICE_TOKENS):
            part = torch.tensor(ids[first : first + SLICE_TOKENS])
            batch = ForwardBatch([Segment(first, len(part), table)])
            hidden = self._text(self._text.embed(part), batch, pool)
        return self._text.logits(hidden[-1:])

    def _next(self, ids: Tensor, batch: ForwardBatch, pool: PagePool) -> Tensor:
        logits = self._text.logits(self._text(self._text.embed(ids), batch, pool))
        return torch.from_numpy(logits.numpy().argmax(-1))
