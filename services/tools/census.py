"""The processes of one sandbox, seen from outside: who is there, what they use, and stopping them.

Input: the process id of the namespace's first process; whoever loses its parent becomes a child of it, so all are below
it. Output: process ids and sums. Must not know why somebody looks.
"""

import contextlib
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
ROUNDS = 64
"""Processes are born while others are looked at; those who bear are stopped first, so this many rounds are plenty."""


@dataclass(frozen=True)
class Usage:
    processes: int = 0
    """Threads counted one by one, as the kernel's own limit does."""
    memory_bytes: int = 0
    """Private and shared memory, without files."""
    cpu_seconds: float = 0.0
    """Of those who live and of their children who ended."""
    written_bytes: int = 0
    """To disks, less what was given up before it got there."""

    @staticmethod
    def sum(usages: Iterable["Usage"]) -> "Usage":
        each = list(usages)
        return Usage(
            processes=sum(one.processes for one in each),
            memory_bytes=sum(one.memory_bytes for one in each),
            cpu_seconds=sum(one.cpu_seconds for one in each),
            written_bytes=sum(one.written_bytes for one in each),
        )


def below(first: int) -> list[int]:
    """Every process below ``first``, parents before children."""
    found = [first]
    for pid in found:
        found += _children(pid)
    return found[1:]


def stop(first: int, spare: Iterable[int] = ()) -> list[int]:
    """Stops everything below ``first``: a parent before its children are looked for, so that nobody escapes. Returns
    who is stopped. Raises RuntimeError where that has no end."""
    stopped: dict[int, None] = dict.fromkeys(spare)
    for _ in range(ROUNDS):
        moving = [pid for pid in below(first) if pid not in stopped]
        if not moving:
            return [pid for pid in stopped if pid not in set(spare)]
        for pid in moving:
            send(pid, signal.SIGSTOP)
            stopped[pid] = None
    raise RuntimeError("processes are born faster than they are stopped")


def send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def first_to_go(pid: int) -> None:
    """Where memory gets scarce, the kernel ends this process and those it bears before any other."""
    with contextlib.suppress(OSError):
        (PROC / str(pid) / "oom_score_adj").write_text("1000")


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        for task in (PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                children += map(int, (task / "children").read_text().split())
    return children


def usage(pid: int) -> Usage:
    """Nothing, where it has ended meanwhile."""
    try:
        status = _fields(pid, "status")
        clock = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[11:15]
        return Usage(
            processes=int(status["Threads"]),
            memory_bytes=1024 * sum(int(status.get(name, "0 kB").split()[0]) for name in ("RssAnon", "RssShmem")),
            cpu_seconds=sum(map(int, clock)) / TICKS_PER_SECOND,
            written_bytes=_written_bytes(pid),
        )
    except (OSError, ValueError, KeyError):
        return Usage()


def _written_bytes(pid: int) -> int:
    """0 where the process is not ours to look into."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        counted = _fields(pid, "io")
        return max(0, int(counted["write_bytes"]) - int(counted["cancelled_write_bytes"]))
    return 0


def _fields(pid: int, name: str) -> dict[str, str]:
    lines = (PROC / str(pid) / name).read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
