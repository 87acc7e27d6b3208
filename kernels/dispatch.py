"""The operations that models call, each with the fastest implementation that this machine has.

Input and output: torch tensors. Promise: every row of a result is a function of that row's inputs and its own context
only, bit for bit, for any number of rows, any order, any number of threads, prefill or decode. Two implementations may
differ in bits: ``implementation()`` is part of a numerics class.
Letters: T rows, N output and K input columns, H heads, E experts, k chosen ones, D hidden size, I inner size of an
expert, S sequences, R latent size, P rotary size.
"""

from collections.abc import Sequence
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from kernels.cpu.layer import WholeLayer
from kernels.cpu.library import instruction_sets, library
from kernels.cpu.operations import READS_BF12, CpuOperations
from kernels.draws import DrawnRow, DrawRow
from kernels.layer import Layer
from kernels.reference.operations import ReferenceOperations
from kernels.weights import Done, ExpertWeights, HeadWeights, Int4, LinearWeight, Matrix, keep


class Operations(Protocol):
    """What an implementation offers; the functions below say what each does."""

    name: str

    def prepare_linear(self, weight: Matrix) -> LinearWeight: ...
    def prepare_heads(self, weight: Tensor) -> HeadWeights: ...
    def prepare_experts(
        self, gate: Sequence[Matrix], up: Sequence[Matrix], down: Sequence[Matrix], done: Done = keep
    ) -> ExpertWeights: ...
    def linear(self, x: Tensor, weight: LinearWeight, out: torch.dtype | None = None) -> Tensor: ...
    def linear_heads(self, x: Tensor, weight: HeadWeights) -> Tensor: ...
    def router_scores(self, x: Tensor, weight: LinearWeight) -> Tensor: ...
    def experts(self, x: Tensor, chosen: Tensor, weight: ExpertWeights) -> Tensor: ...
    def weighted_sum(self, rows: Tensor, weights: Tensor) -> Tensor: ...
    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor: ...
    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor: ...
    def latent_attention(
        self, query: Tensor, pool: Tensor, tables: Tensor, sequences: Tensor, positions: Tensor, scale: float, rank: int
    ) -> Tensor: ...
    def whole_layer(self, layer: Layer) -> WholeLayer | None: ...
    def draw(self, rows: Sequence[DrawRow]) -> list[DrawnRow]: ...
    def set_threads(self, count: int) -> None: ...
    def threads(self) -> int: ...


@cache
def load(name: str | None = None) -> Operations:
    """The implementation of that name, or the fastest one here. Weights prepared by one are not for another."""
    available = implementations()
    chosen = available[-1] if name is None else name
    if chosen not in available:
        raise ValueError(f"no implementation {name!r} on this machine, there are {', '.join(available)}")
    found = library()
    if chosen == "reference" or found is None:
        return ReferenceOperations()
    found.moontide_set_threads(torch.get_num_threads())
    return CpuOperations(found, chosen.removeprefix("cpu-"))


def whole_layer(layer: Layer) -> WholeLayer | None:
    """A decoder layer at once, where this machine has that: called with hidden states [T, D], ``layer.Rows`` and the
    layer's pages, it writes latents and returns hidden states. Bit for bit what its operations one by one give."""
    return _for(layer.input_norm).whole_layer(layer)


def draw(rows: Sequence[DrawRow]) -> list[DrawnRow]:
    """The next token of each row, and its logprobs where they are wanted. On the CPU."""
    return load().draw(rows)


def implementations() -> tuple[str, ...]:
    """Names, slowest first."""
    return "reference", *(f"cpu-{name}" for name in instruction_sets())


def _for(tensor: Tensor) -> Operations:
    """The library is for the CPU; elsewhere it is plain torch."""
    return load() if tensor.is_cpu else load("reference")


def _of(matrix: Matrix) -> Operations:
    return _for(matrix.packed if isinstance(matrix, Int4) else matrix)


def implementation() -> str:
    """``reference``, or ``cpu-`` and the instruction set."""
    return load().name


def holds_bf12() -> bool:
    """Whether bfloat16 matrices that every row reads are held in twelve bits a weight."""
    return implementation() in READS_BF12


def set_threads(count: int) -> None:
    """Threads that an operation may use, 1 or more; as many as torch has unless told. Changes no bit of any result."""
    load().set_threads(count)


def threads() -> int:
    return load().threads()


def prepare_linear(weight: Matrix) -> LinearWeight:
    """[N, K] in bfloat16, float32 or ``Int4``; kept in that format, in the order that ``linear`` reads it."""
    return _of(weight).prepare_linear(weight)


def linear(x: Tensor, weight: LinearWeight, out: torch.dtype | None = None) -> Tensor:
    """[T, K] to [T, N], accumulated in float32, in the dtype of ``x`` or ``out``."""
    return _for(x).linear(x, weight, out)


def prepare_heads(weight: Tensor) -> HeadWeights:
    """[H, N, K] in bfloat16 or float32."""
    return _for(weight).prepare_heads(weight)


def linear_heads(x: Tensor, weight: HeadWeights) -> Tensor:
    """[T, H, K] to [T, H, N], each head with its own matrix."""
    return _for(x).linear_heads(x, weight)


def router_scores(x: Tensor, weight: LinearWeight) -> Tensor:
    """[T, D] to sigmoid(x W^T) [T, E] in float32."""
    return _for(x).router_scores(x, weight)


def prepare_experts(
    gate: Sequence[Matrix], up: Sequence[Matrix], down: Sequence[Matrix], done: Done = keep
) -> ExpertWeights:
    """Of E experts: gate and up [I, D], down [D, I] each, all in one format. ``done`` is told of each matrix whose
    bytes were copied, before the next one is read."""
    return _of(gate[0]).prepare_experts(gate, up, down, done)


def experts(x: Tensor, chosen: Tensor, weight: ExpertWeights) -> Tensor:
    """x [T, D] and chosen experts [T, k] int64 to down(silu(gate x) * up x), [T, k, D]: a row per (token, expert).

    The product inside is rounded to the dtype of ``x``. Each touched expert's weights are read once."""
    return _for(x).experts(x, chosen, weight)


def weighted_sum(rows: Tensor, weights: Tensor) -> Tensor:
    """rows [T, k, D] and weights [T, k] float32: sum over k in order, in float32, then the dtype of ``rows``."""
    return _for(rows).weighted_sum(rows, weights)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """weight * (x / sqrt(mean(x^2) + eps)) over the last dimension (arXiv 1910.07467); the bracket in float32, rounded
    to the dtype of ``x`` before the weight, which has the same dtype."""
    return _for(x).rms_norm(x, weight, eps)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [T, P] or [T, H, P] with interleaved pairs (2i, 2i+1), cos and sin [T, P/2] float32; in float32 inside."""
    return _for(x).rotate(x, cos, sin)


def latent_attention(
    query: Tensor, pool: Tensor, tables: Tensor, sequences: Tensor, positions: Tensor, scale: float, rank: int
) -> Tensor:
    """Absorbed latent attention straight from pages: query [T, H, R + P] to [T, H, R], R = ``rank``.

    ``pool`` [pages, PAGE, R + P] holds keys, their first R columns are the values. Key p of sequence s lies in page
    ``tables[s, p // PAGE]`` at ``p % PAGE`` (tables [S, most pages] int32). Row t belongs to ``sequences[t]`` and sees
    keys 0 to ``positions[t]`` (int64 both). Summed block by block from position 0."""
    return _for(query).latent_attention(query, pool, tables, sequences, positions, scale, rank)
