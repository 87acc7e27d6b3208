"""Folders on the local disk for jobs in work: made empty, removed with the job, swept after a crash.

A process has one folder named after its process id; the next process removes those whose process is gone. Processes
that share the directory therefore share a process table (one machine, or one pod).
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "moontide-ingest-"


@contextmanager
def scratch(directory: Path | None) -> Iterator[Path]:
    """This process's folder, removed on exit."""
    root = directory or Path(tempfile.gettempdir())
    root.mkdir(parents=True, exist_ok=True)
    sweep(root)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-", dir=root, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def sweep(root: Path) -> None:
    """Removes what killed processes left."""
    for folder in root.glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).split("-")[0]
        if owner.isdigit() and not _lives(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def job_folder(root: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=root, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _lives(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
