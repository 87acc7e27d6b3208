"""Specs of small real child processes, and looking at processes from outside."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from services.cli.child import ChildSpec, file_exists
from services.cli.supervisor import RestartPolicy

PROGRAM = Path(__file__).with_name("child_program.py")
QUICK = RestartPolicy(first_pause_seconds=0.01, max_pause_seconds=0.02, max_failed_starts=3)
DEADLINE_SECONDS = 20.0


def spec(directory: Path, name: str, behaviour: str = "", drain_seconds: float = 10.0) -> ChildSpec:
    ready_file = directory / f"{name}.ready"
    return ChildSpec(
        name=name,
        command=(sys.executable, "-S", "-E", str(PROGRAM), name, str(directory), behaviour),
        environment=lambda: {"PATH": "/usr/bin:/bin"},
        log_path=directory / "logs" / f"{name}.log",
        wait_ready=lambda: file_exists(ready_file),
        ready_file=ready_file,
        ready_seconds=DEADLINE_SECONDS,
        drain_seconds=drain_seconds,
    )


def is_running(pid: int) -> bool:
    """False for a zombie: it only waits for its parent to look."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(0.01)
