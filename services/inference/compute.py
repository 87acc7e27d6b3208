"""The compute thread: the only one that touches the model, so that the event loop keeps beating during a forward.

torch and driver errors end here: the outside hears ``Internal``, the log has the details.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TypeVar

import torch

import kernels
from shared.errors import Internal

T = TypeVar("T")

log = logging.getLogger("inference")


class ComputeThread:
    """Use as a context manager; on exit the running computation is waited for."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="compute", initializer=self._prepare)

    def __enter__(self) -> "ComputeThread":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    async def run(self, work: Callable[[], T]) -> T:
        """``work()`` in the thread, without gradients. Raises Internal for errors of torch.

        When the caller is cancelled the computation runs to its end, and its result is dropped.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, _guarded, work)

    def _prepare(self) -> None:
        """OpenMP keeps the number of threads per calling thread: it is set where the work is done."""
        if self._threads is not None:
            torch.set_num_threads(self._threads)
            kernels.set_threads(self._threads)


def _guarded(work: Callable[[], T]) -> T:
    try:
        with torch.inference_mode():
            return work()
    except (RuntimeError, ValueError, IndexError, MemoryError) as error:
        log.exception("computation failed")
        raise Internal("engine.computation_failed", "the model's computation failed") from error
