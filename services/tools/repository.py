"""Runs on a git repository: a bundle becomes the tree that a run begins with, and what a run changed becomes a patch.

Input: bundles, workspaces. Output: stored trees, and diffs that ``git apply`` takes. Must not know runs.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from schemas.blobs import BlobRef
from schemas.chat import TextPart
from schemas.codec import decode, encode
from schemas.tools import ToolFile
from services.tools.capture import Captured, captured
from services.tools.confined import running
from services.tools.git import GIT_CLONE, GIT_DIFF
from services.tools.sandbox import Sandbox, View
from services.tools.tool import Call, Result, declared
from services.tools.workspaces import Workspaces
from shared.blobs.derived import derived_key
from shared.blobs.store import BlobStore
from shared.errors import BadInput

OPERATION, VERSION = "clone-repository", "1"
SECONDS = 300.0
INPUT = "/input"
PATCH = "changes.patch"


@dataclass(frozen=True)
class Repositories:
    sandbox: Sandbox
    workspaces: Workspaces
    blobs: BlobStore

    async def checkout(self, bundle: BlobRef) -> BlobRef:
        """The stored tree of a clone, ``.git`` included; cloned once. Raises BadInput(``tools.repository``)."""
        key = derived_key(bundle.key, OPERATION, b"", VERSION)
        known = await self.blobs.get_derived(key)
        if known is not None:
            return decode(known, BlobRef)
        if bundle.size_bytes > self.sandbox.bounds.workspace_bytes:
            raise BadInput("tools.repository", "the repository is larger than a workspace may be")
        async with self.workspaces.borrowed(f"repository {bundle.key}", None) as workspace:
            done = await run_git(self.sandbox, self.blobs, bundle, GIT_CLONE, View(workspace.path))
            if done.exit_code or done.reason:
                raise BadInput("tools.repository", f"the repository cannot be cloned: {_said(done)}")
            tree = (await workspace.snapshot()).ref
        await self.blobs.put_derived(key, encode(tree))
        return tree


@dataclass(frozen=True)
class Patch:
    """Asked by coordinators at the end of a run; no model sees it."""

    sandbox: Sandbox

    declaration = declared(
        "$patch",
        "Everything that a run on a repository changed, as one patch.",
        {},
        workspace="read",
        timeout_seconds=SECONDS + 30.0,
    )

    async def run(self, call: Call) -> Result:
        assert call.workspace is not None
        if call.repository is None:
            raise BadInput("tools.repository", "the run has no repository")
        view = View(call.workspace, writable=False)
        done = await run_git(self.sandbox, call.blobs, call.repository, GIT_DIFF, view)
        if done.exit_code or done.reason:
            raise BadInput("tools.repository", f"the patch cannot be made: {_said(done)}")
        if not done.output:
            return Result(content=(TextPart(text="nothing was changed"),))
        content = await call.blobs.put(done.output)
        text = f"{PATCH}: {len(done.output)} bytes"
        file = ToolFile(name=PATCH, media_type="text/x-diff", content=content)
        return Result(content=(TextPart(text=text),), files=(file,))


async def run_git(sandbox: Sandbox, blobs: BlobStore, bundle: BlobRef, script: str, view: View) -> Captured:
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "bundle"
        await blobs.save(bundle, file)
        await asyncio.to_thread(file.chmod, 0o644)
        seen = View(view.workspace, view.writable, view.directory, {INPUT: file})
        async with running(sandbox, ["/bin/sh", "-c", script], seen) as confined:
            return await captured(confined, SECONDS, sandbox.bounds.output_bytes)


def _said(done: Captured) -> str:
    return done.note() if done.reason else done.text.strip()[-500:]
