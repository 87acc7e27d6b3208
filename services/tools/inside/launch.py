"""First program in a sandbox: takes on its user and its limits, says that it is there, and becomes the command.

Input: one JSON object as argument, and one byte on the descriptor ``gate`` once the bounds from outside are in place; a
service that died before gives none. Output: one byte on ``ready``. What it runs inherits no descriptor but the standard
ones, no right, and no way back. Must not import anything of ours.
"""

import json
import os
import resource
import sys

KEPT_DESCRIPTORS = 3


def main() -> None:
    given = json.loads(sys.argv[1])
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
        sys.exit("nobody is there any more")
    os.closerange(KEPT_DESCRIPTORS, 65536)
    os.execv(given["command"][0], given["command"])


def lower(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    main()
