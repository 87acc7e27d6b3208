"""What the machine's memory gives: the limit that decoding is held against.

Input: number of threads. Output: bytes per second of reading, with all of them. Numpy's sum over uint64 reads faster
than memory delivers and lets go of the interpreter lock.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

BUFFER_BYTES = 256 * 2**20
"""Per thread: many times what caches hold."""
ROUNDS = 5


class MemoryProbe:
    """Keeps its buffers, so that a probe between two turns takes a quarter of a second."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="memory")
        self._buffers = [np.ones(BUFFER_BYTES // 8, dtype=np.uint64) for _ in range(threads)]

    def bytes_per_second(self) -> float:
        """The best of some rounds: whatever else runs can only make it less."""
        return max(self._round() for _ in range(ROUNDS))

    def _round(self) -> float:
        started = time.perf_counter()
        total = sum(self._pool.map(_sum, self._buffers))
        seconds = time.perf_counter() - started
        assert total == sum(len(buffer) for buffer in self._buffers)
        return sum(buffer.nbytes for buffer in self._buffers) / seconds


def _sum(buffer: NDArray[np.uint64]) -> int:
    return int(buffer.sum())
