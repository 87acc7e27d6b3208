"""``python -m tests.measure.verify_self``: `moontide verify` judges moontide itself, in both sampling modes.

A real stack with a key and the tiny checkpoint, every check, at concurrency 1 and 8. One JSON line last; exit code 1
unless each of them is passed, nothing failed and nothing not offered.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.e2e.stack import environment, moontide, running

MODES = ("open", "kimi")


def judged(directory: Path, sampling: str, levels: Sequence[int], only: Sequence[str] = ()) -> dict[str, Any]:
    """What `moontide verify --json --strict` says. Without a key nobody would be refused, so there is one."""
    keys = directory / "keys"
    keys.write_text("a-key-of-this-test\n")
    with running(directory, MOONTIDE_GATEWAY_SAMPLING=sampling, MOONTIDE_GATEWAY_KEYS_FILE=str(keys)) as stack:
        asked = ["--json", "--strict", "--key-file", str(keys), "--concurrency", *map(str, levels)]
        command = moontide("verify", f"{stack.url}/v1", *asked, *(["--only", *only] if only else []))
        done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, timeout=900, check=False)
    return {"exit_code": done.returncode, **json.loads(done.stdout)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8])
    levels = parser.parse_args().concurrency
    rows = []
    for sampling in MODES:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            card = judged(Path(directory), sampling, levels)
        failed = {check["name"]: check["reason"] for check in card["checks"] if check["status"] != "passed"}
        seconds = round(time.monotonic() - started, 1)
        rows.append({"sampling": sampling, **card["score"], "open": failed, "seconds": seconds})
    ok = all(not row["open"] and row["passed"] for row in rows)
    print(json.dumps({"concurrency": levels, "modes": rows, "ok": ok}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
