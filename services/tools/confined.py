"""One sandbox in work: started, watched, stopped between calls, and ended with everything that ever ran in it.

Input: a command and a view. Output: its pipes, its end, and in words what it was ended for. Must not know what the
command is for.
"""

import asyncio
import contextlib
import json
import logging
import os
import platform
import signal
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import IO, Any

from services.tools import cgroup, seccomp
from services.tools.census import below, first_to_go, send, stop
from services.tools.cgroup import Cgroup
from services.tools.pipe import Pipe, readable
from services.tools.sandbox import Bounds, Descriptors, Sandbox, View
from services.tools.watch import Watch, memory_words
from shared.errors import Unavailable

START_SECONDS = 30.0
END_SECONDS = 15.0
LAST_WORDS_SECONDS = 5.0
LOG = logging.getLogger("tools.sandbox")
MIB = 1024 * 1024


class Confined:
    """Made by ``running``."""

    def __init__(self, process: Process, sandbox: Sandbox, view: View) -> None:
        self.process = process
        self.reason = ""
        """Which bound ended it, in words; empty while none did."""
        self._bounds: Bounds = sandbox.bounds
        self._view = view
        self._first = 0
        self._first_fd = -1
        self._outer_fd = _watched(process.pid)
        self._group: Cgroup | None = None
        self._watching: asyncio.Task[None] | None = None

    async def begin(self, info: Pipe, ready: Pipe, gate: Pipe) -> None:
        """Bounds are in place before the command runs. Raises Unavailable(``tools.sandbox``)."""
        told = await info.read_to(b"}")
        if told:
            self._first = json.loads(told)["child-pid"]
            self._first_fd = _watched(self._first)
        if self._first_fd < 0 or not await ready.read_to(b"1"):
            raise Unavailable("tools.sandbox", f"no sandbox can be made on this machine: {await self._last_words()}")
        inside = [self._first, *below(self._first)]
        self._group = await asyncio.to_thread(self._grouped, inside)
        for pid in inside:
            first_to_go(pid)
        self._watch()
        gate.writer.write(b"1")

    def _grouped(self, inside: list[int]) -> Cgroup | None:
        group = cgroup.made(self._bounds.memory_bytes, self._bounds.processes + 2)
        if group is None:
            return None
        try:
            for pid in inside:
                group.add(pid)
        except OSError:
            group.remove()
            return None
        return group

    async def _last_words(self) -> str:
        stream = self.process.stderr or self.process.stdout
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                if stream is not None:
                    return (await stream.read(2000)).decode("utf-8", "replace").strip()
        return "it does not answer"

    async def wait(self) -> int:
        """The command's exit code, 128 and a signal's number where one ended it. Pipes may still hold something."""
        if self._outer_fd >= 0:
            await readable(self._outer_fd)
        while (code := self.process.returncode) is None:  # noqa: ASYNC110 - told by asyncio's own watcher in a moment
            await asyncio.sleep(0.002)
        if not self.reason and self._group is not None and self._group.out_of_memory:
            self.reason = memory_words(self._bounds)
        return code

    async def finish(self) -> int:
        """Ends whatever is left inside; returns the command's exit code."""
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._first_fd, signal.SIGKILL)
        return await self.wait()

    async def pause(self, main: int) -> None:
        """Everything that the command started is ended, and ``main`` (its process id here) stands still. Raises
        RuntimeError where that has no end."""
        await self._unwatch()
        send(main, signal.SIGSTOP)
        for pid in await asyncio.to_thread(stop, self._first, spare=(main,)):
            send(pid, signal.SIGKILL)

    def resume(self, main: int) -> None:
        """A new call, with new bounds of processor time and writing."""
        self._watch()
        send(main, signal.SIGCONT)

    def command(self) -> int:
        """The command's process id: the only child of the namespace's first process at the beginning."""
        return below(self._first)[0]

    async def end(self) -> None:
        """Returns when nothing of the sandbox lives."""
        await self._unwatch()
        if self._first_fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first_fd, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await readable(self._first_fd)
            os.close(self._first_fd)
            self._first_fd = -1
        else:
            await self._never_begun()
        await self._outer_gone()
        if self._group is not None:
            await self._ungroup(self._group)

    async def _outer_gone(self) -> None:
        """bubblewrap itself, which buries its child first, as nobody else may; only where it hangs it is killed, past
        asyncio, which would take the exit code away from its own watcher. Its pipes are closed: waiting for a process
        waits for them too."""
        if self._outer_fd >= 0:
            await self._exit()
            os.close(self._outer_fd)
            self._outer_fd = -1
        transport: Any = self.process._transport  # type: ignore[attr-defined]
        for pipe in filter(None, map(transport.get_pipe_transport, range(3))):
            pipe.close()
        await self.process.wait()

    async def _exit(self) -> None:
        try:
            async with asyncio.timeout(END_SECONDS):
                await readable(self._outer_fd)
        except TimeoutError:
            signal.pidfd_send_signal(self._outer_fd, signal.SIGKILL)
            await readable(self._outer_fd)

    def _watch(self) -> None:
        watch = Watch(self._first, self._view, self._bounds, counts_memory=self._group is None)
        self._watching = asyncio.create_task(watch.until_exceeded(self.break_off), name="sandbox-watch")

    async def _unwatch(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def _never_begun(self) -> None:
        """bubblewrap ends by itself when nothing comes through the gate; killed halfway, it would leave a child."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self.process.wait()

    async def _ungroup(self, group: Cgroup) -> None:
        for _ in range(50):
            if await asyncio.to_thread(group.remove):
                return
            await asyncio.sleep(0.02)
        LOG.warning("a control group is left", extra={"folders": [str(folder) for folder in group.folders]})

    def break_off(self, reason: str) -> None:
        """Ends everything inside at once; ``wait`` and the pipes come to their end."""
        self.reason = self.reason or reason
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._first_fd, signal.SIGKILL)


@asynccontextmanager
async def running(
    sandbox: Sandbox, command: Sequence[str], view: View, *, talks: bool = False
) -> AsyncIterator[Confined]:
    """The command in its sandbox; when the block ends, nothing of it lives. ``talks``: it has a standard input, and its
    standard error is apart. Raises Unavailable(``tools.sandbox``)."""
    confined = await started(sandbox, command, view, talks=talks)
    try:
        yield confined
    finally:
        await asyncio.shield(confined.end())


async def started(sandbox: Sandbox, command: Sequence[str], view: View, *, talks: bool = False) -> Confined:
    """As ``running``, for a sandbox that is ended by its owner."""
    with Pipe() as info, Pipe() as ready, Pipe() as gate, _file() as rules, _file() as words:
        given = Descriptors(
            arguments=words.fileno(),
            seccomp=rules.fileno(),
            info=info.writer.fileno(),
            ready=ready.writer.fileno(),
            gate=gate.reader.fileno(),
        )
        _fill(rules, seccomp.assembled(platform.machine()))
        _fill(words, b"".join(os.fsencode(word) + b"\0" for word in sandbox.arguments(view, given)))
        try:
            process = await asyncio.create_subprocess_exec(
                *sandbox.command_line(command, view, given),
                stdin=PIPE if talks else DEVNULL,
                stdout=PIPE,
                stderr=PIPE if talks else STDOUT,
                pass_fds=given.all,
                env={},
                start_new_session=True,
                limit=MIB,
            )
        except OSError as error:
            raise Unavailable("tools.sandbox", f"bubblewrap cannot be started: {error.strerror}") from error
        for end in (info.writer, ready.writer, gate.reader):
            end.close()
        confined = Confined(process, sandbox, view)
        try:
            async with asyncio.timeout(START_SECONDS):
                await confined.begin(info, ready, gate)
        except BaseException as error:
            gate.writer.close()
            await asyncio.shield(confined.end())
            if isinstance(error, TimeoutError):
                raise Unavailable("tools.sandbox", "a sandbox did not start in time") from error
            raise
    return confined


def _watched(pid: int) -> int:
    """A descriptor of a process; -1 where it has ended and is buried already."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1


def _file() -> IO[bytes]:
    return tempfile.TemporaryFile(buffering=0)


def _fill(file: IO[bytes], data: bytes) -> None:
    file.write(data)
    file.seek(0)
