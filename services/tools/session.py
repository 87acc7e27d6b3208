"""Warm interpreters: one per run at hand, standing still between calls; everything that they hold is also in a blob.

Input: a run, its workspace, its stored variables. Output: an interpreter that holds exactly these. Must not know tools.
"""

import asyncio
import contextlib
import json
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.blobs import BlobRef
from services.tools.confined import Confined, started
from services.tools.inside import exchange
from services.tools.sandbox import INSIDE, Sandbox, View
from shared.blobs.store import BlobStore

COMMAND = (sys.executable, "-s", "-P", f"{INSIDE}/interpreter.py")
PIECE_BYTES = 65536
MAX_IMAGE_BYTES = 16 * 1024 * 1024


class InterpreterLost(Exception):
    """It ended, or says what no interpreter says; its text tells why, in words."""


@dataclass(frozen=True)
class Answer:
    state: bytes
    dropped: dict[str, str]
    lost: str
    images: list[tuple[str, bytes]]
    reusable: bool
    """False: a new interpreter with these variables could find something else than this one."""


@dataclass
class Interpreter:
    run_id: str
    folder: Path
    confined: Confined
    main: int
    """Its process id."""
    state: BlobRef | None
    """The variables that it holds; None: none."""
    reusable: bool = True

    async def ask(self, code: str, state: bytes | None, max_bytes: int, output: bytearray, max_output: int) -> Answer:
        """``output`` grows while the code runs. Raises InterpreterLost."""
        mark = secrets.token_hex(16)
        head = {"code": code, "max_bytes": max_bytes, "mark": mark}
        reading = asyncio.create_task(self._listen(output, mark.encode(), max_output))
        try:
            with contextlib.suppress(ConnectionError):  # its end is noticed when the answer ends
                assert self.confined.process.stdin is not None
                self.confined.process.stdin.write(exchange.packed(head, [] if state is None else [state]))
                await self.confined.process.stdin.drain()
            answer = await self._answer(max_bytes)
            self.reusable = answer.reusable
            await reading
            return answer
        except (asyncio.IncompleteReadError, ValueError, KeyError, TypeError) as error:
            code_of_end = await self.confined.finish()
            await asyncio.wait([reading])
            raise InterpreterLost(self.confined.reason or f"it crashed (exit code {code_of_end})") from error
        finally:
            reading.cancel()

    async def _answer(self, max_bytes: int) -> Answer:
        stream = self.confined.process.stdout
        assert stream is not None
        head: dict[str, Any] = json.loads(
            await stream.readexactly(exchange.head_bytes(await stream.readexactly(exchange.LENGTH.size)))
        )
        sizes = [int(size) for size in head["pieces"]]
        if sizes[0] > max_bytes or any(size > MAX_IMAGE_BYTES for size in sizes[1:]) or min(sizes) < 0:
            raise ValueError("an answer larger than an interpreter's")
        pieces = [await stream.readexactly(size) for size in sizes]
        names = [str(name) for name in head["images"]]
        dropped = {str(name)[:100]: str(reason)[:300] for name, reason in dict(head["dropped"]).items()}
        return Answer(
            pieces[0],
            dropped,
            str(head["lost"])[:300],
            list(zip(names, pieces[1:], strict=True)),
            bool(head["reusable"]),
        )

    async def _listen(self, output: bytearray, mark: bytes, max_bytes: int) -> None:
        """Until the mark. More than the bound ends the interpreter."""
        stream = self.confined.process.stderr
        assert stream is not None
        while piece := await stream.read(PIECE_BYTES):
            output += piece
            if (at := output.find(mark, max(0, len(output) - len(piece) - len(mark)))) >= 0:
                del output[at:]
                return
            if len(output) > max_bytes + len(mark):
                self.confined.break_off(f"more than {max_bytes // 1024**2} MiB of output")
                del output[max_bytes:]


class Sessions:
    """At most ``count`` interpreters beside those in use."""

    def __init__(self, sandbox: Sandbox, blobs: BlobStore, count: int) -> None:
        self._sandbox = sandbox
        self._blobs = blobs
        self._count = count
        self._idle: list[Interpreter] = []
        """The longest unused first."""

    def folder(self, run_id: str) -> Path | None:
        """Where the run's variables are warm."""
        return next((warm.folder for warm in reversed(self._idle) if warm.run_id == run_id), None)

    @asynccontextmanager
    async def taken(
        self, run_id: str, folder: Path, state: BlobRef | None
    ) -> AsyncIterator[tuple[Interpreter, bytes | None]]:
        """(interpreter, variables to give to it first). It is kept only if the block ends well and ``state`` of the
        interpreter is set to what it holds."""
        warm = self._matching(run_id, folder, state)
        restored = None if warm is not None or state is None else await self._blobs.get(state)
        used = warm or await self._start(run_id, folder)
        kept = False
        try:
            if warm is not None:
                used.confined.resume(used.main)
            yield used, restored
            await used.confined.pause(used.main)
            kept = used.reusable
        finally:
            if not kept:
                await asyncio.shield(used.confined.end())
        if kept:
            self._idle.append(used)
        while len(self._idle) > self._count:
            await self._idle.pop(0).confined.end()

    async def discard(self, folder: Path) -> None:
        """Ends what lives in a folder."""
        for warm in [warm for warm in self._idle if warm.folder == folder]:
            self._idle.remove(warm)
            await warm.confined.end()

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        await asyncio.gather(*(warm.confined.end() for warm in idle))

    def _matching(self, run_id: str, folder: Path, state: BlobRef | None) -> Interpreter | None:
        for warm in self._idle:
            if (warm.run_id, warm.folder, warm.state) == (run_id, folder, state):
                self._idle.remove(warm)
                return warm
        return None

    async def _start(self, run_id: str, folder: Path) -> Interpreter:
        await self.discard(folder)
        confined = await started(self._sandbox, COMMAND, View(folder), talks=True)
        return Interpreter(run_id, folder, confined, confined.command(), None)
