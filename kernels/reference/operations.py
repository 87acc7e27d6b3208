"""Every operation in plain torch: linear maps, heads, experts, latent attention, normalisation, rotation.

Input and output: torch tensors. A row of a result is a function of that row's input and its own context only, bit for
bit, whatever else is in the batch and however many threads run: see ``elementary``. As slow as that is.
Letters: T rows, N output and K input columns, H heads, E experts, D hidden size, I inner size of an expert, R latent
size, P rotary size, B keys per block.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.draws import DrawnRow, DrawRow
from kernels.formats import INT4_GROUP
from kernels.layer import Layer
from kernels.reference.draws import Desk, draw
from kernels.reference.elementary import TEMPORARY, dots, exp, fold, sigmoid
from kernels.reference.int4 import unpack_int4_ref
from kernels.weights import (
    Done,
    ExpertWeights,
    HeadWeights,
    Int4,
    LinearWeight,
    Matrices,
    Matrix,
    check_alike,
    format_of,
    keep,
)

KEYS = 64
"""B: keys per block of the online softmax, counted from position 0."""


class ReferenceOperations:
    """The truth. Holds nothing: weights lie as they came."""

    name = "reference"

    def prepare_linear(self, weight: Matrix) -> LinearWeight:
        return LinearWeight(_stack([weight]))

    def prepare_heads(self, weight: Tensor) -> HeadWeights:
        return HeadWeights(_stack(list(weight)))

    def prepare_experts(
        self, gate: Sequence[Matrix], up: Sequence[Matrix], down: Sequence[Matrix], done: Done = keep
    ) -> ExpertWeights:
        pairs = [matrix for pair in zip(gate, up, strict=True) for matrix in pair]
        return ExpertWeights(check_alike(gate)[0], _stack(pairs, done), _stack(list(down), done))

    def linear(self, x: Tensor, weight: LinearWeight, out: torch.dtype | None = None) -> Tensor:
        return dots(x, _matrix(weight.matrices, 0)).to(out or x.dtype)

    def linear_heads(self, x: Tensor, weight: HeadWeights) -> Tensor:
        heads = [dots(x[:, head], _matrix(weight.matrices, head)) for head in range(weight.matrices.count)]
        return torch.stack(heads, dim=1).to(x.dtype)

    def router_scores(self, x: Tensor, weight: LinearWeight) -> Tensor:
        return sigmoid(dots(x, _matrix(weight.matrices, 0)))

    def experts(self, x: Tensor, chosen: Tensor, weight: ExpertWeights) -> Tensor:
        rows = x.new_empty(*chosen.shape, weight.down.rows)
        for expert in chosen.unique().tolist():
            token, slot = (chosen == expert).nonzero(as_tuple=True)
            gate = dots(x[token], _matrix(weight.gate_up, 2 * expert))
            up = dots(x[token], _matrix(weight.gate_up, 2 * expert + 1))
            inner = (gate * sigmoid(gate) * up).to(x.dtype)
            rows[token, slot] = dots(inner, _matrix(weight.down, expert)).to(x.dtype)
        return rows

    def weighted_sum(self, rows: Tensor, weights: Tensor) -> Tensor:
        total = rows[:, 0].float() * weights[:, :1]
        for slot in range(1, rows.shape[1]):
            total = total + rows[:, slot].float() * weights[:, slot : slot + 1]
        return total.to(rows.dtype)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x.float()
        mean = fold(wide * wide) / x.shape[-1]
        return weight * (wide * (1.0 / (mean + eps).sqrt()).unsqueeze(-1)).to(x.dtype)

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shape = (len(x), *[1] * (x.dim() - 2), cos.shape[-1])
        cos, sin = cos.view(shape), sin.view(shape)
        even, odd = x.float()[..., 0::2], x.float()[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)

    def latent_attention(
        self, query: Tensor, pool: Tensor, tables: Tensor, sequences: Tensor, positions: Tensor, scale: float, rank: int
    ) -> Tensor:
        result = query.new_empty(*query.shape[:2], rank)
        step = max(1, TEMPORARY // (query.shape[1] * KEYS * query.shape[2]))
        for first in range(0, len(query), step):
            rows = slice(first, first + step)
            owned = tables[sequences[rows]]
            result[rows] = _attend(query[rows], pool, owned, positions[rows], scale, rank).to(query.dtype)
        return result

    def whole_layer(self, layer: Layer) -> None:
        """Operation by operation is the reference."""

    def draw(self, rows: Sequence[DrawRow]) -> list[DrawnRow]:
        desk = Desk(max(len(row.logits) for row in rows))
        return [draw(row, desk) for row in rows]

    def set_threads(self, count: int) -> None:
        """Bits do not depend on it, and torch has its own setting."""

    def threads(self) -> int:
        return torch.get_num_threads()


def _attend(query: Tensor, pool: Tensor, tables: Tensor, positions: Tensor, scale: float, rank: int) -> Tensor:
    """[T, H, R] float32. Online softmax (arXiv 1805.02867) over blocks of B keys; a row sees its own blocks only."""
    largest = query.new_full(query.shape[:2], -torch.inf, dtype=torch.float32)  # [T, H]
    total, summed = torch.zeros_like(largest), largest.new_zeros(*query.shape[:2], rank)
    for start in range(0, int(positions.max()) + 1, KEYS):
        rows = (positions >= start).nonzero().squeeze(-1)
        keys, seen = _keys(pool, tables[rows], positions[rows], start)  # [t, B, R + P], [t, B]
        scores = fold(query[rows].float().unsqueeze(2) * keys.unsqueeze(1)) * scale  # [t, H, B]
        scores = scores.masked_fill(~seen.unsqueeze(1), -torch.inf)
        higher = torch.maximum(largest[rows], scores.amax(-1))
        shrink, weights = exp(largest[rows] - higher), exp(scores - higher.unsqueeze(-1))
        part = fold(weights.unsqueeze(-1) * keys[:, None, :, :rank], dim=2)  # [t, H, R]
        largest[rows], total[rows] = higher, total[rows] * shrink + fold(weights)
        summed[rows] = summed[rows] * shrink.unsqueeze(-1) + part
    return summed / total.unsqueeze(-1)


def _keys(pool: Tensor, tables: Tensor, positions: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Rows [t, B, R + P] of the pool at positions start and on, zero where a row of the batch may not look."""
    where = torch.arange(start, start + KEYS, device=pool.device)
    seen = where <= positions.unsqueeze(-1)  # [t, B]
    pages = tables.gather(1, (where // pool.shape[1]).clamp(max=tables.shape[1] - 1).expand(len(tables), -1).long())
    keys = pool[pages.long().where(seen, 0), where % pool.shape[1]].float()
    return keys.masked_fill(~seen.unsqueeze(-1), 0.0), seen


def _stack(matrices: list[Matrix], done: Done = keep) -> Matrices:
    rows, columns = check_alike(matrices)
    kind, first = format_of(matrices[0]), matrices[0]
    if len(matrices) == 1:  # a single one is not copied
        values, scales = (first.packed, first.scale.unsqueeze(0)) if isinstance(first, Int4) else (first, None)
        return Matrices(1, rows, columns, kind, values.unsqueeze(0), scales, "reference")
    values = _room(first.packed if isinstance(first, Int4) else first, len(matrices))
    scales = _room(first.scale, len(matrices)) if isinstance(first, Int4) else None
    for index, matrix in enumerate(matrices):
        values[index] = matrix.packed if isinstance(matrix, Int4) else matrix
        if scales is not None and isinstance(matrix, Int4):
            scales[index] = matrix.scale
        done(matrix)
    return Matrices(len(matrices), rows, columns, kind, values, scales, "reference")


def _room(like: Tensor, count: int) -> Tensor:
    return like.new_empty(count, *like.shape)


def _matrix(weight: Matrices, index: int) -> Tensor:
    """[N, K] in float32 for INT4 (four bits times a bfloat16 scale are exact there), else as stored."""
    if weight.layout != "reference":
        raise ValueError("these weights were prepared by another implementation")
    if weight.scales is None:
        return weight.values[index]
    wide = weight.scales[index].float().repeat_interleave(INT4_GROUP, dim=1)[:, : weight.columns]
    return unpack_int4_ref(weight.values[index], weight.columns).float() * wide
