"""A control group for one sandbox, where this process may make one: the kernel itself bounds memory and processes.

Input: bounds. Output: a group to put a process into, or None. Version 2 and version 1 of the kernel's interface; what a
container or an ordinary user may not make is not there. Must not know what runs inside.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PREFIX = "moontide-tools-"


@dataclass(frozen=True)
class Cgroup:
    """``folders``: one in version 2, one per controller in version 1."""

    folders: tuple[Path, ...]

    def add(self, pid: int) -> None:
        """The process and whoever it bears. Raises OSError."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel ended a process of the group for it."""
        for folder in self.folders:
            for name in ("memory.events", "memory.oom_control"):
                with contextlib.suppress(OSError):
                    words = (folder / name).read_text().split()
                    return words[words.index("oom_kill") + 1] != "0"
        return False

    def remove(self) -> bool:
        """False while processes are in it."""
        try:
            for folder in self.folders:
                folder.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


def made(memory_bytes: int, processes: int) -> Cgroup | None:
    """A new, empty group with both bounds; None where that is not possible."""
    name = f"{PREFIX}{os.getpid()}-{uuid.uuid4().hex[:12]}"
    return (_version_1 if is_version_1() else _version_2)(name, memory_bytes, processes)


def is_version_1() -> bool:
    return not (ROOT / "cgroup.controllers").exists()


def sweep() -> None:
    """Removes groups whose maker was killed. One that still holds a process is not removed by the kernel."""
    for controller in ("", "memory", "pids"):
        for parent in dict.fromkeys((_own(controller) or ROOT, ROOT)):
            for left in parent.glob(f"{PREFIX}*"):
                maker = left.name.removeprefix(PREFIX).split("-")[0]
                if maker == str(os.getpid()) or not Path("/proc", maker).exists():
                    Cgroup((left,)).remove()


def _version_2(name: str, memory_bytes: int, processes: int) -> Cgroup | None:
    settings = {
        "memory.max": memory_bytes,
        "memory.swap.max": 0,
        "memory.oom.group": 1,
        "pids.max": processes,
    }
    for parent in dict.fromkeys((_own("") or ROOT, ROOT)):
        group = Cgroup((parent / name,))
        if _filled(group, [settings], {"memory.max", "pids.max"}):
            return group
    return None


def _version_1(name: str, memory_bytes: int, processes: int) -> Cgroup | None:
    memory, pids = _own("memory"), _own("pids")
    if memory is None or pids is None:
        return None
    group = Cgroup((memory / name, pids / name))
    limits = {"memory.limit_in_bytes": memory_bytes, "memory.memsw.limit_in_bytes": memory_bytes}
    wanted = {"memory.limit_in_bytes", "pids.max"}
    return group if _filled(group, [limits, {"pids.max": processes}], wanted) else None


def _filled(group: Cgroup, settings: list[dict[str, int]], wanted: set[str]) -> bool:
    """Whether the group was made with everything that is wanted; if not, nothing of it is left."""
    done: set[str] = set()
    for folder, values in zip(group.folders, settings, strict=True):
        with contextlib.suppress(OSError):
            folder.mkdir()
        for name, value in values.items():
            with contextlib.suppress(OSError):
                if (folder / name).exists():
                    (folder / name).write_text(str(value))
                    done.add(name)
    if wanted <= done:
        return True
    group.remove()
    return False


def _own(controller: str) -> Path | None:
    """Where this process is, by its controller in version 1 (``""`` is version 2)."""
    for controllers, path in _memberships():
        if controller in controllers:
            found = (ROOT / controller if controller else ROOT) / path.lstrip("/")
            return found if found.is_dir() else (ROOT / controller if (ROOT / controller).is_dir() else None)
    return None


def _memberships() -> Iterator[tuple[list[str], str]]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            yield controllers.split(","), path
