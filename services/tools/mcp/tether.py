"""Runs one command that ends when its parent does, whatever way that ends: ``python tether.py PARENT COMMAND…``.

Standard input goes to the command; its output comes back line by line, no line longer than ``LINE_BYTES``. Whoever is
in the command's process group ends with it. Standard library only, since nothing of ours is on its path.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys

LINE_BYTES = 8 * 1024 * 1024
PIECE_BYTES = 64 * 1024
LINGER_SECONDS = 5.0
PR_SET_PDEATHSIG = 1


def end(*_: object) -> None:
    os.killpg(0, signal.SIGKILL)


def end_with(parent: int) -> None:
    """The kernel tells of the parent's death; one that is dead already is noticed by its number."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, end)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        end()


def pump(source: int, target: int) -> None:
    """Whole lines, until the end of the source. A line that is too long to be kept in memory ends everything."""
    held = bytearray()
    while piece := os.read(source, PIECE_BYTES):
        held += piece
        whole = held.rfind(b"\n", len(held) - len(piece)) + 1
        if whole:
            write(target, bytes(held[:whole]))
            del held[:whole]
        if len(held) > LINE_BYTES:
            print("tether: a line of the server is too long", file=sys.stderr, flush=True)
            end()


def write(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def main(parent: int, command: list[str]) -> None:
    end_with(parent)
    try:
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", file=sys.stderr, flush=True)
        sys.exit(127)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # only the command reads what its parent writes
    assert child.stdout is not None
    with contextlib.suppress(OSError):  # nobody listens any more
        pump(child.stdout.fileno(), 1)
    os.close(1)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=LINGER_SECONDS)
    end()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
