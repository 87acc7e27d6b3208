"""``shell``: a command in the sandbox over the run's workspace; its exit code and what it says.

Must not know what the command is for. Nothing that it starts lives longer than the call.
"""

import shutil
from dataclasses import dataclass

from services.tools import beneath
from services.tools.capture import captured
from services.tools.confined import running
from services.tools.sandbox import Sandbox, View
from services.tools.tool import Call, Result, declared, said

DEFAULT_SECONDS = 120.0
MAX_SECONDS = 1800.0
GRACE_SECONDS = 30.0


@dataclass(frozen=True)
class Shell:
    sandbox: Sandbox

    declaration = declared(
        "shell",
        "Run a shell command in a sandbox over the workspace: no network, files are kept in /workspace only. What it "
        "starts in the background ends with it. Answers its output and exit code.",
        {
            "command": {"type": "string", "minLength": 1},
            "directory": {"type": "string", "description": "Where to run it, in the workspace. Default: /workspace."},
            "timeout_seconds": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS},
        },
        required=("command",),
        effect="workspace",
        workspace="write",
        timeout_seconds=MAX_SECONDS + GRACE_SECONDS,
        expected_seconds=5.0,
    )

    async def run(self, call: Call) -> Result:
        assert call.workspace is not None
        command, seconds = call.arguments["command"], call.arguments.get("timeout_seconds", DEFAULT_SECONDS)
        directory = beneath.place(call.workspace, call.arguments.get("directory", "."))
        call.progress(f"running {command[:100]}")
        view = View(call.workspace, directory=directory)
        async with running(self.sandbox, [interpreter(), "-c", command], view) as confined:
            done = await captured(confined, seconds, self.sandbox.bounds.output_bytes)
        lines = [done.text.rstrip("\n"), done.note()]
        return said("\n".join(line for line in lines if line) or "[no output]")


def interpreter() -> str:
    """What people and models write commands for, where it is there."""
    return shutil.which("bash", path="/bin:/usr/bin") or "/bin/sh"
