"""``search_files`` and ``apply_patch``: what is done to the workspace by programs, and so in the sandbox.

Input: a pattern, or a patch. Output: matching lines, or the changed files. Must not know how a sandbox is made.
"""

import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from services.tools import beneath
from services.tools.capture import Captured, captured
from services.tools.confined import running
from services.tools.files import PATH
from services.tools.git import GIT_APPLY
from services.tools.sandbox import INSIDE, Sandbox, View
from services.tools.tool import Call, Result, declared, said
from shared.errors import BadInput

SECONDS = 60.0
GRACE_SECONDS = 30.0
MAX_PATCH_CHARACTERS = 4 * 1024 * 1024
INPUT = "/input"


@dataclass(frozen=True)
class SearchFiles:
    sandbox: Sandbox

    declaration = declared(
        "search_files",
        "Search the workspace's text files for a regular expression (Python's). Answers path, line number and line.",
        {
            "pattern": {"type": "string", "minLength": 1, "maxLength": 2000},
            "path": {**PATH, "default": "."},
            "glob": {"type": "string", "description": "Only files whose name or path fits, such as *.py."},
        },
        required=("pattern",),
        workspace="read",
        timeout_seconds=SECONDS + GRACE_SECONDS,
    )

    async def run(self, call: Call) -> Result:
        assert call.workspace is not None
        path = call.arguments.get("path", ".")
        with beneath.located(call.workspace, path):
            pass  # refused here where it leads out
        given = json.dumps({"pattern": call.arguments["pattern"], "path": path, "glob": call.arguments.get("glob", "")})
        command = [sys.executable, "-I", "-S", f"{INSIDE}/search.py", given]
        async with running(self.sandbox, command, View(call.workspace, writable=False)) as confined:
            done = await captured(confined, SECONDS, self.sandbox.bounds.output_bytes)
        if done.reason or done.exit_code:
            raise _refused(done, "the search failed", "pattern")
        return said(done.text.rstrip("\n"))


@dataclass(frozen=True)
class ApplyPatch:
    sandbox: Sandbox

    declaration = declared(
        "apply_patch",
        "Apply a unified diff (as `git diff` makes it) to the workspace: as a whole, or not at all.",
        {"patch": {"type": "string", "minLength": 1, "maxLength": MAX_PATCH_CHARACTERS}},
        required=("patch",),
        effect="workspace",
        workspace="write",
        timeout_seconds=SECONDS + GRACE_SECONDS,
    )

    async def run(self, call: Call) -> Result:
        assert call.workspace is not None
        patch = call.arguments["patch"].encode("utf-8", "replace")
        with tempfile.NamedTemporaryFile() as file:
            await asyncio.to_thread(_fill, Path(file.name), patch if patch.endswith(b"\n") else patch + b"\n")
            view = View(call.workspace, extra={INPUT: Path(file.name)})
            async with running(self.sandbox, ["/bin/sh", "-c", GIT_APPLY], view) as confined:
                done = await captured(confined, SECONDS, self.sandbox.bounds.output_bytes)
        if done.reason or done.exit_code:
            raise _refused(done, "the patch does not apply; nothing was changed", "patch")
        return said(done.text.rstrip("\n") or "applied")


def _fill(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o644)


def _refused(done: Captured, what: str, param: str) -> BadInput:
    why = done.note() if done.reason else done.text.strip()[-2000:]
    return BadInput("tool.failed", f"{what}: {why}", param=param)
