"""This process's folder on the local disk: removed when the process ends, or by the next process after a kill.

Who holds the lock of a folder lives; the kernel lets go of it with the process. So folders are told apart also where
process ids begin anew with every start (containers).
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.tools import folder

PREFIX = "moontide-tools-"
LOCK = ".lock"


@contextmanager
def scratch(directory: Path | None) -> Iterator[Path]:
    root = directory or Path(tempfile.gettempdir())
    root.mkdir(parents=True, exist_ok=True)
    sweep(root)
    made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
    with _locked(made):
        try:
            yield made
        finally:
            _remove(made)


def sweep(root: Path) -> None:
    """Removes what killed processes left."""
    for left in root.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), _locked(left):
            _remove(left)


@contextmanager
def _locked(made: Path) -> Iterator[None]:
    """Raises BlockingIOError where another process holds it."""
    descriptor = os.open(made / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove(made: Path) -> None:
    with contextlib.suppress(OSError):
        folder.empty(made)
        made.rmdir()
