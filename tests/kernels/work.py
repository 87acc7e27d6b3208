"""Some work for every operation: seeded inputs of T rows, and how to do any of them in any order.

Shapes are odd on purpose: outputs that fill no block, columns that fill no group, heads that fill no panel, experts
that nobody chose.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.dispatch import Operations
from kernels.reference.int4 import pack_int4_ref, quantize_int4_ref
from kernels.weights import Int4, Matrix

ROWS = 64
FORMATS = ("bf16", "f32", "int4")

Run = Callable[[Tensor], Tensor]
"""Chosen rows [n] int64 to their results [n, ...]."""


@dataclass(frozen=True)
class Work:
    name: str
    prepare: Callable[[Operations, torch.dtype], Run]


def matrix(kind: str, rows: int, columns: int, generator: torch.Generator) -> Matrix:
    values = torch.randn(rows, columns, generator=generator) / columns**0.5
    if kind == "int4":
        nibbles, scale = quantize_int4_ref(values)
        return Int4(pack_int4_ref(nibbles), scale, columns)
    return values.bfloat16() if kind == "bf16" else values


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def _linear(kind: str, outputs: int, columns: int) -> Work:
    def prepare(ops: Operations, dtype: torch.dtype) -> Run:
        generator = _seeded()
        weight = ops.prepare_linear(matrix(kind, outputs, columns, generator))
        x = torch.randn(ROWS, columns, generator=generator).to(dtype)
        return lambda rows: ops.linear(x[rows], weight, torch.float32)

    return Work(f"linear {kind} {outputs}x{columns}", prepare)


def _experts(kind: str) -> Work:
    def prepare(ops: Operations, dtype: torch.dtype) -> Run:
        generator = _seeded()
        shapes = (40, 96), (40, 96), (96, 40)
        weight = ops.prepare_experts(*[[matrix(kind, *shape, generator) for _ in range(6)] for shape in shapes])
        x = torch.randn(ROWS, 96, generator=generator).to(dtype)
        chosen = torch.stack([torch.randperm(5, generator=generator)[:2] for _ in range(ROWS)])
        return lambda rows: ops.experts(x[rows], chosen[rows], weight)

    return Work(f"experts {kind}", prepare)


def _block(ops: Operations, dtype: torch.dtype) -> Run:
    """One that every row takes: held in other forms than experts are."""
    generator = _seeded()
    weight = ops.prepare_experts(*[[matrix("bf16", *shape, generator)] for shape in ((72, 96), (72, 96), (96, 72))])
    x = torch.randn(ROWS, 96, generator=generator).to(dtype)
    return lambda rows: ops.experts(x[rows], torch.zeros(len(rows), 1, dtype=torch.int64), weight)


def _heads(ops: Operations, dtype: torch.dtype) -> Run:
    generator = _seeded()
    weight = ops.prepare_heads(torch.randn(5, 24, 32, generator=generator).to(dtype))
    x = torch.randn(ROWS, 5, 40, generator=generator).to(dtype)
    return lambda rows: ops.linear_heads(x[rows][..., :32], weight)


def _router(ops: Operations, dtype: torch.dtype) -> Run:
    generator = _seeded()
    weight = ops.prepare_linear(torch.randn(6, 64, generator=generator) / 8)
    x = torch.randn(ROWS, 64, generator=generator).to(dtype)
    return lambda rows: ops.router_scores(x[rows], weight)


def _weighted_sum(ops: Operations, dtype: torch.dtype) -> Run:
    generator = _seeded()
    x, weights = torch.randn(ROWS, 8, 40, generator=generator).to(dtype), torch.rand(ROWS, 8, generator=generator)
    return lambda rows: ops.weighted_sum(x[rows], weights[rows])


def _norm(ops: Operations, dtype: torch.dtype) -> Run:
    generator = _seeded()
    x, weight = torch.randn(ROWS, 72, generator=generator).to(dtype), torch.rand(72, generator=generator).to(dtype)
    return lambda rows: ops.rms_norm(x[rows], weight, 1e-6)


def _rotate(ops: Operations, dtype: torch.dtype) -> Run:
    generator = _seeded()
    x, angles = torch.randn(ROWS, 3, 16, generator=generator).to(dtype), torch.rand(ROWS, 8, generator=generator)
    return lambda rows: ops.rotate(x[rows], angles.cos()[rows], angles.sin()[rows])


def _attention(ops: Operations, dtype: torch.dtype) -> Run:
    """Three sequences of up to 1,200 keys in shuffled pages of 48; what nobody may see is not a number."""
    generator, page, longest = _seeded(), 48, 1200
    pool = torch.full((3 * longest // page + 1, page, 40), torch.nan, dtype=dtype)
    tables = (torch.randperm(len(pool) - 1, generator=generator) + 1).int().view(3, -1)
    positions = torch.randint(0, longest, (ROWS,), generator=generator)
    positions[:4] = torch.tensor([0, 63, 64, longest - 1])
    sequences = torch.randint(0, 3, (ROWS,), generator=generator)
    for sequence in range(3):
        last = int(positions[sequences == sequence].max())
        keys = torch.randn(last + 1, 40, generator=generator).to(dtype)
        where = torch.arange(last + 1)
        pool[tables[sequence, where // page].long(), where % page] = keys
    query = torch.randn(ROWS, 5, 40, generator=generator).to(dtype)
    return lambda rows: ops.latent_attention(query[rows], pool, tables, sequences[rows], positions[rows], 0.2, 24)


WORKS = (
    *(_linear(kind, outputs, columns) for kind in FORMATS for outputs, columns in ((70, 96), (1, 45))),
    *(_experts(kind) for kind in FORMATS),
    Work("block", _block),
    Work("heads", _heads),
    Work("router", _router),
    Work("weighted sum", _weighted_sum),
    Work("norm", _norm),
    Work("rotate", _rotate),
    Work("attention", _attention),
)
