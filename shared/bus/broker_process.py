"""Becomes the broker: run as a script by path, standard library only, so that any supervisor can run it.

Usage: broker_process.py LOCK_FILE PROGRAM ARGUMENT…  Takes the lock (held until the process ends), asks Linux to end
this process when its parent does, and replaces itself by the program.
"""

import ctypes
import fcntl
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
LOCKED_EXIT_CODE = 75


def main() -> None:
    lock_path, *program = sys.argv[1:]
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)  # the parent ended before we asked
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another broker uses this directory", file=sys.stderr)
        sys.exit(LOCKED_EXIT_CODE)
    os.set_inheritable(lock, True)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
