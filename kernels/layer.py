"""A decoder layer as one operation: its weights as the operations of ``dispatch`` keep them, and its numbers.

Input: prepared weights. Output: ``Layer``, which ``dispatch.whole_layer`` takes. What it computes is written down
operation by operation in ``shared/model/decoder.py``; done at once it gives the same bits.
"""

from dataclasses import dataclass

from torch import Tensor

from kernels.weights import ExpertWeights, HeadWeights, LinearWeight


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Letters as in ``shared/model/attention.py`` and ``experts.py``."""

    input_norm: Tensor
    query_down: LinearWeight | None
    query_norm: Tensor | None
    query: LinearWeight
    latent: LinearWeight
    latent_norm: Tensor
    keys: HeadWeights
    values: HeadWeights
    out: LinearWeight
    inner_norm: Tensor
    router: LinearWeight | None
    """None: ``experts`` is one block that every row takes."""
    bias: Tensor | None
    experts: ExpertWeights
    shared: ExpertWeights | None
    chosen: int
    """Experts per row."""
    normalise: bool
    routed_scale: float
    rope: int
    eps: float
    latent_eps: float
    softmax_scale: float


@dataclass(frozen=True)
class Rows:
    """What the rows of a forward batch have in common for all layers."""

    cos: Tensor
    sin: Tensor
    """[T, P/2] float32."""
    slots: Tensor
    """[T] int64: where in the pages, counted in positions, a row's latent goes."""
    tables: Tensor
    """[G, S] int32."""
    owners: Tensor
    positions: Tensor
    """[T] int64."""
