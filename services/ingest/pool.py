"""A bounded pool of decoder workers: child processes that stay warm, one job at a time each.

Input: ``DecodeRequest``. Output: ``Decoded`` and files, or a MoontideError whose text does not name the input. A worker
that crashes, hangs or runs out of memory costs its own job one retry in a fresh worker. Must not know bus or blobs.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from schemas.codec import decode
from services.ingest.exchange import (
    LENGTH_BYTES,
    DecodeAnswer,
    Decoded,
    DecodeFault,
    DecodeProgress,
    DecodeRefused,
    DecodeRequest,
    WorkerMessage,
    WorkerReady,
    body_bytes,
    pack,
)
from shared.config import environment
from shared.errors import BadInput, Unavailable

ATTEMPTS = 2
START_SECONDS = 30.0
CLOSE_SECONDS = 2.0
PRIVATE = ("MOONTIDE_", "NATS_", "OTEL_", "AWS_")
"""Variables that a process which reads hostile files has no use for."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
ROOT = Path(__file__).resolve().parents[2]

Report = Callable[[str], None]


def worker_command(memory_bytes: int) -> tuple[str, ...]:
    return (sys.executable, "-m", "services.ingest.worker", str(memory_bytes))


def worker_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """What a worker inherits: no settings of ours, no credentials, the import path, one thread for numpy's kernels."""
    kept = {name: value for name, value in inherited.items() if not name.startswith(PRIVATE)}
    path = ":".join(filter(None, (str(ROOT), inherited.get("PYTHONPATH"))))
    return kept | ONE_THREAD | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


class WorkerLost(Exception):
    """The worker did not answer; ``code`` is what the job fails with if it happens again."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


LOST_TEXTS = {
    "media.timeout": "takes too long to decode",
    "media.memory": "needs more memory to decode than is allowed",
    "media.crashed": "crashes the decoder",
}


@dataclass
class Worker:
    """One child process and its two pipes."""

    process: Process

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    async def ask(self, request: DecodeRequest, report: Report) -> DecodeAnswer:
        """Raises WorkerLost when the process ends or talks nonsense instead of answering."""
        assert self.process.stdin is not None
        with contextlib.suppress(ConnectionError):  # a dead worker is noticed when its answer ends
            self.process.stdin.write(pack(request))
            await self.process.stdin.drain()
        while True:
            message = await self.read()
            if isinstance(message, DecodeProgress):
                report(message.stage)
            elif isinstance(message, WorkerReady):
                raise WorkerLost("media.crashed", "unexpected message")
            else:
                return message

    async def read(self) -> WorkerMessage:
        assert self.process.stdout is not None
        try:
            header = await self.process.stdout.readexactly(LENGTH_BYTES)
            return decode(await self.process.stdout.readexactly(body_bytes(header)), WorkerMessage)  # type: ignore[arg-type]
        except (asyncio.IncompleteReadError, ConnectionError):
            raise WorkerLost(_code_of_end(await self.process.wait())) from None
        except (ValueError, msgspec.MsgspecError) as error:
            raise WorkerLost("media.crashed", f"unreadable message: {error}") from error

    async def kill(self) -> None:
        """Returns when the process is gone: nobody writes into its output folder any more."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        self._close_pipe()

    async def close(self) -> None:
        """The end of its input is the sign to leave."""
        self._close_pipe()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.process.wait()
        await self.kill()

    def _close_pipe(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()


class WorkerPool:
    """At most ``size`` workers. ``command`` starts one; ``job_seconds`` is the wall-clock limit of one attempt."""

    def __init__(self, size: int, command: tuple[str, ...], folder: Path, job_seconds: float) -> None:
        self._size = size
        self._command = command
        self._folder = folder
        self._job_seconds = job_seconds
        self._slots = asyncio.Semaphore(size)
        self._idle: list[Worker] = []
        self._log = logging.getLogger("ingest.pool")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Starts all workers, so that the first job meets a warm one; ends them on exit."""
        starts = await asyncio.gather(*(self._start() for _ in range(self._size)), return_exceptions=True)
        self._idle.extend(start for start in starts if isinstance(start, Worker))
        try:
            for start in starts:
                if isinstance(start, BaseException):
                    raise start
            yield
        finally:
            await asyncio.gather(*(worker.close() for worker in self._idle))
            self._idle.clear()

    async def decode(self, request: DecodeRequest, report: Report) -> Decoded:
        """Raises BadInput for what the input is to blame for, after one retry where the worker was lost; Unavailable
        when no worker can be started. Cancelling kills the worker of the job."""
        async with self._slots:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    answer = await self._attempt(request, report, fresh=attempt > 1)
                except WorkerLost as lost:
                    self._log.warning("decoder worker lost", extra={"code": lost.code, "attempt": attempt})
                    if attempt == ATTEMPTS:
                        raise BadInput(lost.code, LOST_TEXTS[lost.code]) from lost
                    continue
                if isinstance(answer, DecodeRefused):
                    raise BadInput(answer.code, answer.text)
                return answer
        raise AssertionError("unreachable")

    async def _attempt(self, request: DecodeRequest, report: Report, *, fresh: bool) -> Decoded | DecodeRefused:
        worker = await self._worker(fresh)
        kept = False
        try:
            async with asyncio.timeout(self._job_seconds):
                answer = await worker.ask(request, report)
            if isinstance(answer, DecodeFault):
                self._log.warning("decoder fault", extra={"reason": answer.reason, "detail": answer.detail})
                raise WorkerLost(f"media.{answer.reason}", answer.detail)
            kept = True
            return answer
        except TimeoutError:
            raise WorkerLost("media.timeout") from None
        finally:
            if kept:
                self._idle.append(worker)
            else:
                await asyncio.shield(worker.kill())

    async def _worker(self, fresh: bool) -> Worker:
        """An idle worker that still lives, or a new one."""
        while self._idle and not fresh:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            await worker.kill()
        return await self._start()

    async def _start(self) -> Worker:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=PIPE,
                stdout=PIPE,
                cwd=self._folder,
                env=worker_environment(environment()),
                start_new_session=True,  # Ctrl-C is for the service, which drains
            )
        except OSError as error:
            raise Unavailable("ingest.no_worker", "no decoder worker can be started") from error
        worker = Worker(process)
        try:
            async with asyncio.timeout(START_SECONDS):
                await worker.read()
        except (WorkerLost, TimeoutError) as error:
            await worker.kill()
            raise Unavailable("ingest.no_worker", "no decoder worker can be started") from error
        except asyncio.CancelledError:
            await asyncio.shield(worker.kill())
            raise
        return worker


def _code_of_end(returncode: int) -> str:
    return "media.timeout" if returncode == -signal.SIGXCPU else "media.crashed"
