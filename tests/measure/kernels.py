"""`python -m tests.measure.kernels`: what the operations of a K2-shaped model cost here, beside the machine's limit.

The model has hidden 1024, 12 layers of which 1 dense, 64 experts of 512, top 8 and 1 shared, query rank 384, latent
128, 16 heads of 64 + 32 / 64, vocabulary 32,768; experts in INT4, the rest in bfloat16. The limit is the time to read
the weights that are needed, at the bandwidth measured in the same run. These are sums of operations: what a model does
between them is not here.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import kernels
from kernels.weights import Int4

HIDDEN, INNER, DENSE, VOCABULARY = 1024, 512, 4096, 32768
HEADS, NOPE, ROPE, VALUE, RANK, QUERY_RANK = 16, 64, 32, 64, 128, 384
EXPERTS, CHOSEN, LAYERS = 64, 8, 12
PAGE, CONTEXT, EPS = 64, 512, 1e-6
COPIES = 4
"""Layers that differ in memory, so that no cache holds the weights that a model would have to read."""


def plain(rows: int, columns: int) -> Tensor:
    return (torch.randn(rows, columns) / columns**0.5).bfloat16()


def int4(rows: int, columns: int) -> Int4:
    """Random nibbles: what they are does not matter for time."""
    packed = torch.randint(-(2**31), 2**31 - 1, (rows, columns // 8), dtype=torch.int32)
    return Int4(packed, torch.full((rows, columns // 32), 0.01, dtype=torch.bfloat16), columns)


class Layer:
    """Attention and experts of one layer, for T rows: each its own sequence (decode), or all of one (prefill)."""

    def __init__(self, dense: bool) -> None:
        self.norm = torch.ones(HIDDEN, dtype=torch.bfloat16)
        self.query_a = kernels.prepare_linear(plain(QUERY_RANK, HIDDEN))
        self.query_b = kernels.prepare_linear(plain(HEADS * (NOPE + ROPE), QUERY_RANK))
        self.latent = kernels.prepare_linear(plain(RANK + ROPE, HIDDEN))
        self.keys = kernels.prepare_heads(torch.stack([plain(RANK, NOPE) for _ in range(HEADS)]))
        self.values = kernels.prepare_heads(torch.stack([plain(VALUE, RANK) for _ in range(HEADS)]))
        self.out = kernels.prepare_linear(plain(HIDDEN, HEADS * VALUE))
        self.dense = dense
        inner = DENSE if dense else INNER
        self.block = kernels.prepare_experts([plain(inner, HIDDEN)], [plain(inner, HIDDEN)], [plain(HIDDEN, inner)])
        if not dense:
            self.router = kernels.prepare_linear(plain(EXPERTS, HIDDEN))
            gate, up = ([int4(INNER, HIDDEN) for _ in range(EXPERTS)] for _ in range(2))
            self.experts = kernels.prepare_experts(gate, up, [int4(HIDDEN, INNER) for _ in range(EXPERTS)])

    def attention(self, h: Tensor, state: "State") -> Tensor:
        x = kernels.rms_norm(h, self.norm, EPS)
        a = kernels.rms_norm(kernels.linear(x, self.query_a), self.norm[:QUERY_RANK], EPS)
        query = kernels.linear(a, self.query_b).view(len(h), HEADS, NOPE + ROPE)
        latent = kernels.linear(x, self.latent)
        kernels.rms_norm(latent[:, :RANK], self.norm[:RANK], EPS)
        kernels.rotate(latent[:, RANK:], state.cos, state.sin)
        rope = kernels.rotate(query[..., NOPE:], state.cos, state.sin)
        absorbed = torch.cat((kernels.linear_heads(query[..., :NOPE], self.keys), rope), dim=-1)
        seen = kernels.latent_attention(absorbed, state.pool, state.tables, state.sequences, state.positions, 0.1, RANK)
        return h + kernels.linear(kernels.linear_heads(seen, self.values).flatten(1), self.out)

    def mlp(self, h: Tensor, state: "State") -> Tensor:
        x = kernels.rms_norm(h, self.norm, EPS)
        shared = kernels.experts(x, state.zeros, self.block).squeeze(1)
        if self.dense:
            return h + shared
        kernels.router_scores(x, self.router)
        rows = kernels.experts(x, state.chosen, self.experts)
        return h + kernels.weighted_sum(rows, state.weights) + shared


class State:
    """Rows, their choices and their pages."""

    def __init__(self, rows: int, prefill: bool) -> None:
        self.h = torch.randn(rows, HIDDEN).bfloat16()
        self.cos, self.sin = torch.rand(rows, ROPE // 2), torch.rand(rows, ROPE // 2)
        self.chosen = torch.stack([torch.randperm(EXPERTS)[:CHOSEN] for _ in range(rows)])
        self.zeros, self.weights = torch.zeros(rows, 1, dtype=torch.int64), torch.full((rows, CHOSEN), 0.3)
        sequences = 1 if prefill else rows
        self.pool = torch.randn(sequences * CONTEXT // PAGE, PAGE, RANK + ROPE).bfloat16()
        self.tables = torch.randperm(len(self.pool), dtype=torch.int32).view(sequences, -1)
        self.sequences = torch.zeros(rows, dtype=torch.int64) if prefill else torch.arange(rows)
        self.positions = torch.arange(rows) if prefill else torch.full((rows,), CONTEXT - 1)


def best(function: Callable[[], object], runs: int) -> float:
    """Seconds: the lower quartile of some runs, since the machine may be shared."""
    function()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.quantiles(times, n=4)[0]


def bandwidth() -> float:
    """Bytes per second that the operations can read at most: a matrix that no cache holds, times one row."""
    weight = kernels.prepare_linear(torch.zeros(1 << 16, 2048, dtype=torch.bfloat16))
    x = torch.zeros(1, 2048, dtype=torch.bfloat16)
    return weight.nbytes / best(lambda: kernels.linear(x, weight), 9)


def forward_bytes(layers: list[Layer], head_bytes: int, rows: int) -> float:
    """Of weights that a forward of that many rows reads at least; every layer but the first has experts."""
    touched = 1 - (1 - CHOSEN / EXPERTS) ** rows
    dense, mixed = layers[0], layers[1]
    shared = sum(w.nbytes for w in (dense.query_a, dense.query_b, dense.latent, dense.keys, dense.values, dense.out))
    per_mixed = shared + mixed.block.nbytes + mixed.router.nbytes + touched * mixed.experts.nbytes
    return shared + dense.block.nbytes + (LAYERS - 1) * per_mixed + head_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kernels.set_threads(arguments.threads)
    layers = [Layer(dense=index == 0) for index in range(COPIES)]
    head = kernels.prepare_linear(plain(VOCABULARY, HIDDEN))
    read = bandwidth()
    print(f"{kernels.implementation()}, {kernels.threads()} threads, reads {read / 1e9:.1f} GB/s")
    for name, rows, prefill in (("decode 1", 1, False), ("decode 16", 16, False), ("prefill 512", 512, True)):
        state = State(rows, prefill)
        last = state.h[-1:] if prefill else state.h
        runs = 3 if prefill else arguments.runs
        dense = best(lambda: layers[0].mlp(state.h, state), runs)  # noqa: B023
        mixed = best(lambda: [layer.mlp(state.h, state) for layer in layers[1:]], runs) / (COPIES - 1)  # noqa: B023
        seen = best(lambda: [layer.attention(state.h, state) for layer in layers], runs) / COPIES  # noqa: B023
        logits = best(lambda: kernels.linear(last, head, torch.float32), runs)  # noqa: B023
        total = LAYERS * seen + dense + (LAYERS - 1) * mixed + logits
        limit = forward_bytes(layers, head.nbytes, rows) / read
        print(
            f"{name:12} {1e3 * total:8.2f} ms  {rows / total:7.1f} tokens/s  {100 * limit / total:5.1f} % of the limit;"
            f"  attention {LAYERS * 1e3 * seen:.2f}  dense {1e3 * dense:.2f}  experts {(LAYERS - 1) * 1e3 * mixed:.2f}"
            f"  head {1e3 * logits:.2f} ms"
        )


if __name__ == "__main__":
    main()
