"""Whole decoder layers by one call of the compiled library: the structs of ``layer.h``, filled in once.

Input: ``kernels.layer.Layer``. Output: ``WholeLayer``, ``WholeLayers``; ``takes`` says which weights the call knows.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.cpu.library import checked
from kernels.cpu.panels import Panels
from kernels.layer import Layer, Rows
from kernels.weights import ExpertWeights, HeadWeights, LinearWeight

_POINTER, _NUMBER, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
MOST_CHOSEN = 64


class _Matrices(ctypes.Structure):
    _fields_ = (
        ("values", _POINTER),
        ("scales", _POINTER),
        ("format", _NUMBER),
        ("count", _NUMBER),
        ("blocks", _NUMBER),
        ("columns", _NUMBER),
    )


_MATRICES = ("query_down", "query", "latent", "keys", "values", "out", "router")
_PAIRS = ("gate_up", "down", "shared_gate_up", "shared_down")
_NORMS = ("input_norm", "query_norm", "latent_norm", "inner_norm", "bias")
_SIZES = ("hidden", "heads", "nope", "rope", "value", "rank", "query_rank", "chosen", "normalise", "is_bf16")
_FLOATS = ("eps", "latent_eps", "scale", "routed_scale")


class _Weights(ctypes.Structure):
    _fields_ = (
        *((name, _Matrices) for name in _MATRICES + _PAIRS),
        *((name, _POINTER) for name in _NORMS),
        *((name, _NUMBER) for name in _SIZES),
        *((name, _FLOAT) for name in _FLOATS),
    )


class _Input(ctypes.Structure):
    _fields_ = (
        *(
            (name, _POINTER)
            for name in ("h", "out", "cosine", "sine", "slots", "tables", "owners", "positions", "pool")
        ),
        *((name, _NUMBER) for name in ("rows", "page", "pages", "table_rows", "table_row")),
        ("last_norm", _POINTER),
        ("last_eps", _FLOAT),
    )


class WholeLayer:
    """Keeps the tensors that the struct points to."""

    def __init__(self, library: ctypes.CDLL, isa: int, layer: Layer) -> None:
        self.compiled, self.isa, self.layer = library, isa, layer
        self.dtype, self.hidden, self.rope = layer.input_norm.dtype, len(layer.input_norm), layer.rope
        self.width = _rank(layer) + layer.rope
        self.weights = _filled(layer)

    def __call__(self, h: Tensor, rows: Rows, latents: Tensor) -> Tensor:
        """[T, D] to [T, D]; ``latents`` [pages, PAGE, R + P] is written at the rows' slots."""
        return WholeLayers([self])(h, rows, latents.unsqueeze(0))


class WholeLayers:
    """Layers in a row, and the model's last norm where it is given: after a layer the caches hold its weights, and what
    Python needs for a call is far away."""

    def __init__(self, layers: Sequence[WholeLayer], last_norm: Tensor | None = None, last_eps: float = 0.0) -> None:
        kinds = {(one.isa, one.dtype, one.hidden, one.width, one.rope) for one in layers}
        if len(kinds) != 1:
            raise ValueError("layers of one shape are expected")
        self._layers, self._library = tuple(layers), layers[0].compiled
        (self._isa, self._dtype, self._hidden, self._width, self._rope) = kinds.pop()
        if last_norm is not None and (last_norm.dtype, last_norm.shape) != (self._dtype, (self._hidden,)):
            raise ValueError(f"a last norm [{self._hidden}] in {self._dtype} is expected")
        self._last_norm, self._last_eps = last_norm, last_eps
        self._weights = (_POINTER * len(layers))(*(ctypes.addressof(one.weights) for one in layers))

    def __call__(self, h: Tensor, rows: Rows, latents: Tensor) -> Tensor:
        """[T, D] to [T, D]; ``latents`` [layers, pages, PAGE, R + P] is written at the rows' slots."""
        count = len(h)
        if h.shape != (count, self._hidden) or h.dtype != self._dtype or not h.is_contiguous():
            raise ValueError(f"contiguous rows [T, {self._hidden}] in {self._dtype} are expected")
        wanted = len(self._layers), self._width, self._dtype
        if (len(latents), latents.shape[3], latents.dtype) != wanted or not latents.is_contiguous():
            raise ValueError(
                f"contiguous pages of {wanted[0]} layers [pages, PAGE, {wanted[1]}] in {wanted[2]} are expected"
            )
        _check(rows, count, self._rope)
        result = torch.empty_like(h)
        tensors = h, result, rows.cos, rows.sin, rows.slots, rows.tables, rows.owners, rows.positions, latents
        places = [tensor.data_ptr() for tensor in tensors]
        last = None if self._last_norm is None else self._last_norm.data_ptr()
        given = _Input(*places, count, latents.shape[2], latents.shape[1], *rows.tables.shape, last, self._last_eps)
        checked(self._library.moontide_layers(self._isa, self._weights, len(self._layers), ctypes.byref(given)))
        return result


def takes(layer: Layer) -> bool:
    """Whether the call knows this layer: panels without padding, norms in one dtype, not too many experts per row."""
    pieces = [getattr(layer, name) for name in _MATRICES] + [layer.experts, layer.shared]
    panels = [matrices for piece in pieces if piece is not None for matrices in _matrices(piece)]
    norms = [getattr(layer, name) for name in _NORMS if getattr(layer, name) is not None and name != "bias"]
    alike = {norm.dtype for norm in norms} <= {torch.bfloat16} or {norm.dtype for norm in norms} <= {torch.float32}
    alike = alike and (layer.bias is None or layer.bias.dtype == torch.float32)
    whole = all(isinstance(one, Panels) and one.padded == one.columns for one in panels)
    return whole and alike and layer.chosen <= min(MOST_CHOSEN, layer.experts.down.count)


def _matrices(piece: LinearWeight | HeadWeights | ExpertWeights) -> list[object]:
    return [piece.gate_up, piece.down] if isinstance(piece, ExpertWeights) else [piece.matrices]


def _rank(layer: Layer) -> int:
    return len(layer.latent_norm)


def _filled(layer: Layer) -> _Weights:
    weights = _Weights(
        hidden=len(layer.input_norm),
        heads=layer.keys.matrices.count,
        nope=layer.keys.matrices.columns,
        rope=layer.rope,
        value=layer.values.matrices.rows,
        rank=_rank(layer),
        query_rank=0 if layer.query_norm is None else len(layer.query_norm),
        chosen=layer.chosen,
        normalise=layer.normalise,
        is_bf16=layer.input_norm.dtype == torch.bfloat16,
        eps=layer.eps,
        latent_eps=layer.latent_eps,
        scale=layer.softmax_scale,
        routed_scale=layer.routed_scale,
    )
    for name in _MATRICES:
        piece = getattr(layer, name)
        setattr(weights, name, _Matrices() if piece is None else _struct(piece.matrices))
    for prefix, pair in (("", layer.experts), ("shared_", layer.shared)):
        setattr(weights, f"{prefix}gate_up", _Matrices() if pair is None else _struct(pair.gate_up))
        setattr(weights, f"{prefix}down", _Matrices() if pair is None else _struct(pair.down))
    for name in _NORMS:
        tensor = getattr(layer, name)
        setattr(weights, name, None if tensor is None else tensor.data_ptr())
    return weights


def _struct(matrices: object) -> _Matrices:
    assert isinstance(matrices, Panels)
    return _Matrices(matrices.address, matrices.scale_address, *matrices.shape)


def _check(rows: Rows, count: int, rope: int) -> None:
    for table in (rows.cos, rows.sin):
        if table.shape != (count, rope // 2) or table.dtype != torch.float32 or not table.is_contiguous():
            raise ValueError(f"contiguous cosines and sines [{count}, {rope // 2}] in float32 are expected")
    for numbers in (rows.slots, rows.owners, rows.positions):
        if numbers.shape != (count,) or numbers.dtype != torch.int64 or not numbers.is_contiguous():
            raise ValueError(f"contiguous indices [{count}] in int64 are expected")
    if rows.tables.dim() != 2 or rows.tables.dtype != torch.int32 or not rows.tables.is_contiguous():
        raise ValueError("contiguous tables [G, S] in int32 are expected")
