"""First program in a sandbox. Its child takes on user and limits, says that it is there, and becomes the command; it
itself buries whoever dies, and ends with the command, and everything inside with it.

Input: one JSON object as argument, and one byte on the descriptor ``gate`` once the bounds from outside are in place; a
service that died before gives none. Output: one byte on ``ready``, and the command's exit code. The command inherits no
descriptor but the standard ones, no right, and no way back. Must not import anything of ours.
"""

import json
import os
import resource
import sys
from typing import Any

KEPT_DESCRIPTORS = 3
ALL_DESCRIPTORS = 65536


def main() -> None:
    given = json.loads(sys.argv[1])
    command = os.fork()
    if command == 0:
        become(given)
    os.closerange(0, ALL_DESCRIPTORS)
    while True:
        pid, status = os.wait()
        if pid == command:
            os._exit(code_of(status))


def become(given: dict[str, Any]) -> None:
    """Everything that may fail has failed before ``ready`` is written."""
    for name, limit in given["limits"].items():
        lower(getattr(resource, name), limit)
    if given["uid"] is not None:
        os.setgroups([])
        os.setresgid(given["uid"], given["uid"], given["uid"])
        os.setresuid(given["uid"], given["uid"], given["uid"])
    os.umask(0o022)
    os.chdir(given["directory"])
    os.write(given["ready"], b"1")
    if os.read(given["gate"], 1) != b"1":
        os._exit(1)  # nobody is there any more
    os.closerange(KEPT_DESCRIPTORS, ALL_DESCRIPTORS)
    os.execv(given["command"][0], given["command"])


def lower(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(kind, (limit, limit))


def code_of(status: int) -> int:
    """As shells tell it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    main()
