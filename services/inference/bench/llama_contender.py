"""llama.cpp through the C interface of llama-cpp-python, on the Q4_0 file of ``gguf_file``.

The expert product alone is ggml's ``mul_mat_id``, reached in the shared libraries of the same wheel.
"""

import ctypes
import time
from pathlib import Path
from typing import Any

import llama_cpp  # pyright: ignore[reportMissingImports]
import numpy as np

from services.inference.bench import ggml_experts
from services.inference.bench.works import CONTEXT_TOKENS, prompt
from shared.model import config as configuration

CONTEXT = 4096
SEQUENCES = 16


class LlamaContender:
    def __init__(self, directory: Path, file: Path, threads: int) -> None:
        self._config, self._file, self._threads = configuration.load(directory).text, file, threads
        self._silent = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self._silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_load_from_file(str(file).encode(), llama_cpp.llama_model_default_params())
        if not model:
            raise RuntimeError(f"llama.cpp cannot load {file}")
        options = llama_cpp.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch = CONTEXT, 512, 512
        options.n_seq_max, options.n_threads, options.n_threads_batch = SEQUENCES, threads, threads
        options.kv_unified = True
        self._context: Any = llama_cpp.llama_init_from_model(model, options)
        if not self._context:
            raise RuntimeError(f"llama.cpp cannot make a context for {file}")

    def decode(self, sequences: int, steps: int) -> float:
        self._forget()
        ids = [self._prompt(CONTEXT_TOKENS, one) for one in range(sequences)]
        started = time.perf_counter()
        for step in range(steps):
            ids = self._forward([(ids[one], CONTEXT_TOKENS + step, one, True) for one in range(sequences)])
        return time.perf_counter() - started

    def prefill(self, tokens: int) -> float:
        self._forget()
        started = time.perf_counter()
        self._prompt(tokens, 0)
        return time.perf_counter() - started

    def experts(self, rows: int, calls: int) -> float:
        return ggml_experts.seconds(self._config, self._file, rows, calls, self._threads)

    def logits(self, ids: list[int]) -> list[float]:
        self._forget()
        self._forward([(token, position, 0, position == len(ids) - 1) for position, token in enumerate(ids)])
        return self._row(len(ids) - 1).tolist()

    def _prompt(self, tokens: int, sequence: int) -> int:
        ids = prompt(tokens, sequence, self._config.vocab_size)
        last = tokens - 1
        return self._forward([(token, position, sequence, position == last) for position, token in enumerate(ids)])[0]

    def _forward(self, rows: list[tuple[int, int, int, bool]]) -> list[int]:
        """(id, position, sequence, wanted) per row; the likeliest next id of each wanted row."""
        batch = llama_cpp.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for row, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[row], batch.pos[row], batch.n_seq_id[row] = token, position, 1
            batch.seq_id[row][0], batch.logits[row] = sequence, wanted
        failed = llama_cpp.llama_decode(self._context, batch)
        llama_cpp.llama_batch_free(batch)
        if failed:
            raise RuntimeError(f"llama_decode answered {failed}")
        return [int(self._row(row).argmax()) for row, (*_, wanted) in enumerate(rows) if wanted]

    def _row(self, row: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, shape=(self._config.vocab_size,))

    def _forget(self) -> None:
        memory = llama_cpp.llama_get_memory(self._context)
        assert memory is not None, "a context for generation has a memory"
        llama_cpp.llama_memory_clear(memory, False)
