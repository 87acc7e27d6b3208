"""A small child for supervisor tests: `python child_program.py NAME DIRECTORY [BEHAVIOUR]`.

Touches DIRECTORY/NAME.ready, appends NAME to DIRECTORY/order when it is told to drain, and then ends.
Behaviours: `deaf` ignores SIGTERM and has a child of its own, `misconfigured` ends with 2, `broken` ends with 1.
"""

import signal
import subprocess
import sys
from pathlib import Path


def main() -> int:
    name, directory = sys.argv[1], Path(sys.argv[2])
    behaviour = sys.argv[3] if len(sys.argv) > 3 else ""
    if behaviour in ("misconfigured", "broken"):
        print(f"{name}: MOONTIDE_{name.upper()}_SIZE='x': expected a number", file=sys.stderr)
        return 2 if behaviour == "misconfigured" else 1
    if behaviour == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        grandchild = subprocess.Popen(["sleep", "600"])
        (directory / f"{name}.grandchild").write_text(str(grandchild.pid))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    (directory / f"{name}.ready").touch()
    signal.sigwait({signal.SIGTERM} if behaviour != "deaf" else {signal.SIGUSR1})
    with (directory / "order").open("a") as order:
        order.write(f"{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
