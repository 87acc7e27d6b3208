"""ggml's product of a row with the experts chosen for it, on the Q4_0 tensors of a GGUF file.

Input: file, rows, calls, threads. Output: seconds. The graph is the one llama.cpp builds for SwiGLU experts: two
``mul_mat_id``, silu, product, ``mul_mat_id``; on plain (not repacked) tensors, with a thread pool that stays.
"""

import ctypes
import time
from ctypes import POINTER, c_bool, c_char, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import gguf  # pyright: ignore[reportMissingImports]
import llama_cpp  # pyright: ignore[reportMissingImports]
import numpy as np

from services.inference.bench.works import chosen_experts
from shared.model.config import TextConfig

F32, I32, Q4_0 = 0, 26, 2
"""ggml_type."""
GRAPH_BYTES = 64 * 2**20
POOL_PARAMETER_BYTES = 4096
"""More than ggml_threadpool_params takes; ggml fills it in."""


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", c_size_t), ("mem_buffer", c_void_p), ("no_alloc", c_bool))


def seconds(config: TextConfig, file: Path, rows: int, calls: int, threads: int) -> float:
    """Time of ``calls`` products of ``rows`` rows, each with other experts."""
    ggml = _library()
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    block = f"blk.{config.first_k_dense_replace}.ffn_"
    size = sum(tensors[f"{block}{kind}_exps.weight"].n_bytes for kind in ("gate", "up", "down"))
    context = ggml.ggml_init(_InitParams(size + GRAPH_BYTES, None, False))
    try:
        graph, x, ids = _graph(ggml, context, tensors, block, config, rows)
        return _timed(ggml, graph, x, ids, config, rows, calls, threads)
    finally:
        ggml.ggml_free(context)


def _graph(
    ggml: Any, context: Any, tensors: dict[str, Any], block: str, config: TextConfig, rows: int
) -> tuple[Any, Any, Any]:
    hidden, inner, experts = config.hidden_size, config.moe_intermediate_size, config.n_routed_experts

    def weights(kind: str, columns: int, outputs: int) -> Any:
        tensor = ggml.ggml_new_tensor_3d(context, Q4_0, columns, outputs, experts)
        data = np.ascontiguousarray(tensors[f"{block}{kind}_exps.weight"].data)
        ctypes.memmove(ggml.ggml_get_data(tensor), data.ctypes.data, data.nbytes)
        return tensor

    x = ggml.ggml_new_tensor_3d(context, F32, hidden, 1, rows)
    ids = ggml.ggml_new_tensor_2d(context, I32, config.num_experts_per_tok, rows)
    gate = ggml.ggml_mul_mat_id(context, weights("gate", hidden, inner), x, ids)
    up = ggml.ggml_mul_mat_id(context, weights("up", hidden, inner), x, ids)
    inside = ggml.ggml_mul(context, ggml.ggml_silu(context, gate), up)
    down = ggml.ggml_mul_mat_id(context, weights("down", inner, hidden), inside, ids)
    graph = ggml.ggml_new_graph(context)
    ggml.ggml_build_forward_expand(graph, down)
    return graph, x, ids


def _timed(ggml: Any, graph: Any, x: Any, ids: Any, config: TextConfig, rows: int, calls: int, threads: int) -> float:
    values = np.random.default_rng(0).standard_normal((rows, config.hidden_size), dtype=np.float32)
    ctypes.memmove(ggml.ggml_get_data(x), values.ctypes.data, values.nbytes)
    chosen = [
        np.array([chosen_experts(call, config.num_experts_per_tok, config.n_routed_experts)] * rows, dtype=np.int32)
        for call in range(calls)
    ]
    parameters = (c_char * POOL_PARAMETER_BYTES)()
    ggml.ggml_threadpool_params_init(parameters, threads)
    pool = ggml.ggml_threadpool_new(parameters)
    backend = ggml.ggml_backend_cpu_init()
    ggml.ggml_backend_cpu_set_n_threads(backend, threads)
    ggml.ggml_backend_cpu_set_threadpool(backend, pool)
    started = time.perf_counter()
    for numbers in chosen:
        ctypes.memmove(ggml.ggml_get_data(ids), numbers.ctypes.data, numbers.nbytes)
        ggml.ggml_backend_graph_compute(backend, graph)
    taken = time.perf_counter() - started
    ggml.ggml_backend_free(backend)
    ggml.ggml_threadpool_free(pool)
    return taken


class _Functions:
    """Functions of several shared libraries under one roof."""

    def __init__(self, libraries: list[ctypes.CDLL]) -> None:
        self._libraries = libraries

    def find(self, name: str) -> Any:
        for library in self._libraries:
            try:
                return getattr(library, name)
            except AttributeError:
                continue
        raise RuntimeError(f"ggml has no {name}")


def _library() -> Any:
    """The functions above with their types, as attributes. The libraries are loaded by llama_cpp already."""
    folder = Path(str(llama_cpp.__file__)).parent / "lib"
    functions = _Functions([ctypes.CDLL(str(path)) for path in sorted(folder.glob("libggml*.so"))])
    found = type("ggml", (), {})()
    for name, (result, arguments) in _SIGNATURES.items():
        function = functions.find(name)
        function.restype, function.argtypes = result, arguments
        setattr(found, name, function)
    return found


_T = c_void_p
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "ggml_init": (_T, [_InitParams]),
    "ggml_free": (None, [_T]),
    "ggml_get_data": (_T, [_T]),
    "ggml_new_tensor_2d": (_T, [_T, c_int, c_int64, c_int64]),
    "ggml_new_tensor_3d": (_T, [_T, c_int, c_int64, c_int64, c_int64]),
    "ggml_mul_mat_id": (_T, [_T, _T, _T, _T]),
    "ggml_mul": (_T, [_T, _T, _T]),
    "ggml_silu": (_T, [_T, _T]),
    "ggml_new_graph": (_T, [_T]),
    "ggml_build_forward_expand": (None, [_T, _T]),
    "ggml_threadpool_params_init": (None, [POINTER(c_char), c_int]),
    "ggml_threadpool_new": (_T, [POINTER(c_char)]),
    "ggml_threadpool_free": (None, [_T]),
    "ggml_backend_cpu_init": (_T, []),
    "ggml_backend_cpu_set_n_threads": (None, [_T, c_int]),
    "ggml_backend_cpu_set_threadpool": (None, [_T, _T]),
    "ggml_backend_graph_compute": (c_int, [_T, _T]),
    "ggml_backend_free": (None, [_T]),
}
