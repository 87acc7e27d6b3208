"""One child process: how it is started, when it counts as ready, how it ends.

Input: a ``ChildSpec``. Output: a process in a session of its own, whose output goes to a bounded log file and which the
kernel kills when this process dies, even by ``kill -9``. Knows nothing of restarts or of what the child does.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

LOG_MAX_BYTES = 16 * 1024 * 1024
EXIT_BAD_CONFIGURATION = 2
_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class ChildSpec:
    """What to run. ``environment`` is asked at every start, since a restart may have to keep a chosen port."""

    name: str
    command: tuple[str, ...]
    environment: Callable[[], Mapping[str, str]]
    log_path: Path
    wait_ready: Callable[[], Awaitable[None]]
    """Returns once the child serves; cancelled when it ends before that."""
    ready_file: Path | None = None
    """Removed before every start, since a killed child leaves it behind."""
    ready_seconds: float = 120.0
    drain_seconds: float = 25.0


async def file_exists(path: Path) -> None:
    """Waits until ``path`` exists."""
    while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process makes the file: there is no event to wait for
        await asyncio.sleep(_POLL_SECONDS)


async def spawn(spec: ChildSpec) -> asyncio.subprocess.Process:
    """Start the child. Raises OSError when the program cannot be run."""
    if spec.ready_file is not None:
        spec.ready_file.unlink(missing_ok=True)
    bound_log(spec.log_path)
    with spec.log_path.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *spec.command,
            env=dict(spec.environment()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor alone, which drains in order
            preexec_fn=die_with_this_process(),
        )


def die_with_this_process() -> Callable[[], None] | None:
    """Runs in the child before exec: the kernel sends it SIGKILL when the thread that forked it ends."""
    if sys.platform != "linux":
        return None
    parent_pid = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def bind() -> None:
        if prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent_pid:
            os._exit(1)  # the parent died in between

    return bind


def kill_group(process: asyncio.subprocess.Process) -> None:
    """SIGKILL to the child's whole session: also what it started itself and left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def terminate(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)


def bound_log(path: Path) -> None:
    """Keep at most one older file. The child appends, so that cutting the file under it is safe."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_MAX_BYTES:
        shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)


def log_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def log_tail(path: Path, since: int = 0, lines: int = 8) -> str:
    """The last lines of a log, of what was written behind byte ``since``."""
    if not path.exists():
        return ""
    with path.open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(since if since <= size else 0, size - 16 * 1024))
        text = log.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:])
