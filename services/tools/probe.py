"""``python -m services.tools.probe``: whether a sandbox can be made here, for ``moontide doctor``.

Output: one JSON object ``{"ok", "found", "advice"}``. Changes nothing on this machine.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from schemas.codec import encode_json
from services.tools import cgroup
from services.tools.capture import captured
from services.tools.config import ToolsConfig
from services.tools.confined import running
from services.tools.sandbox import Bounds, Sandbox, View
from shared.errors import MoontideError

SECONDS = 30.0
ADVICE = (
    "python, shell, search_files, apply_patch and runs on repositories refuse until this machine allows user "
    "namespaces (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0, "
    "user.max_user_namespaces above 0; in a container: a seccomp profile and capabilities that allow them)"
)


def main() -> None:
    sys.stdout.write(encode_json(asyncio.run(probed())).decode() + "\n")


async def probed() -> dict[str, object]:
    """Raises nothing: what goes wrong is the answer."""
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "workspace"
            folder.mkdir()
            if os.geteuid() == 0:
                uid = ToolsConfig().sandbox_uid
                os.chown(folder, uid, uid)
            async with running(Sandbox(Bounds()), ["/bin/sh", "-c", "echo works"], View(folder)) as confined:
                done = await captured(confined, SECONDS, 10_000)
    except MoontideError as error:
        return {"ok": False, "found": error.message, "advice": ADVICE}
    if done.text != "works\n":
        return {"ok": False, "found": f"a sandboxed program fails: {done.text.strip()} {done.note()}", "advice": ADVICE}
    return {"ok": True, "found": found(), "advice": ""}


def found() -> str:
    user = "root: an ordinary user for each workspace" if os.geteuid() == 0 else "an ordinary user: in a user namespace"
    group = cgroup.made(1024**3, 64)
    if group is None:
        return f"as {user}; no control groups, so memory is bounded by looking ten times a second"
    group.remove()
    return f"as {user}; memory and processes bounded by control groups"


if __name__ == "__main__":
    main()
