"""Injected paths and contents: what the service itself does with names, trees, patches, repositories and variables that
come from a model. Without: the plain way to do it. With: our tools.
"""

import asyncio
import os
import pickle
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from schemas.blobs import BlobRef
from schemas.codec import encode
from schemas.request import RequestContext
from schemas.tools import WorkspaceFile, WorkspaceTree
from services.tools.files import edit_file, list_files, read_file, write_file
from services.tools.patches import ApplyPatch, SearchFiles
from services.tools.python import Python
from services.tools.repository import Patch
from services.tools.sandbox import Sandbox
from services.tools.session import Sessions
from services.tools.tool import Call, Result, Tool
from services.tools.tree import TreeBounds
from services.tools.workspace import Workspace
from shared.blobs.store import BlobStore
from shared.errors import MoontideError
from tests.escape.attack import BOUNDS, MIB
from tests.escape.case import Case, Ground

Act = Callable[[Ground], str]
TREE = TreeBounds(max_files=100, max_bytes=10 * MIB)


def by_name(name: str, path: Callable[[Ground], str], plain: Act, ours: Act, *, quick: bool = False) -> Case:
    """Won when the secret is said or the canary changed."""

    async def attempt(ground: Ground, sandboxed: bool) -> bool:
        ground.facts["path"] = path(ground)
        try:
            said = await asyncio.to_thread(ours if sandboxed else plain, ground)
        except (MoontideError, OSError):
            said = ""
        return ground.token in said or hurt(ground)

    return Case("paths", name, attempt, quick)


def hurt(ground: Ground) -> bool:
    return not ground.canary.exists() or ground.canary.read_text() != ground.token


def dots(ground: Ground) -> str:
    return "../outside/canary"


def absolute(ground: Ground) -> str:
    return str(ground.canary)


def link(ground: Ground) -> str:
    (ground.workspace / "link").symlink_to(ground.canary)
    return "link"


def link_on_the_way(ground: Ground) -> str:
    (ground.workspace / "way").symlink_to(ground.outside)
    return "way/canary"


def mounted_dots(ground: Ground) -> str:
    return "/workspace/../outside/canary"


def plain_read(ground: Ground) -> str:
    return (ground.workspace / ground.facts["path"].removeprefix("/workspace/")).read_text()


def our_read(ground: Ground) -> str:
    return read_file(ground.workspace, ground.facts["path"], None, None)


def plain_write(ground: Ground) -> str:
    (ground.workspace / ground.facts["path"]).write_text("overwritten")
    return ""


def our_write(ground: Ground) -> str:
    return write_file(ground.workspace, ground.facts["path"], "overwritten")


def plain_edit(ground: Ground) -> str:
    path = ground.workspace / ground.facts["path"]
    path.write_text(path.read_text().replace(ground.token[:4], "...."))
    return ""


def our_edit(ground: Ground) -> str:
    return edit_file(ground.workspace, ground.facts["path"], ground.token[:4], "....", True)


def directory_of_the_secret(ground: Ground) -> str:
    (ground.outside / ground.token).touch()
    (ground.workspace / "listed").symlink_to(ground.outside)
    return "listed"


def plain_list(ground: Ground) -> str:
    return str(os.listdir(ground.workspace / ground.facts["path"]))


def our_list(ground: Ground) -> str:
    return list_files(ground.workspace, ground.facts["path"], 2)


async def tree(ground: Ground, sandboxed: bool) -> bool:
    """A workspace from elsewhere whose paths lead out."""
    blobs = store(ground)
    content = await blobs.put(b"overwritten")
    files = (WorkspaceFile(path="../outside/canary", content=content),)
    if not sandboxed:
        for file in files:
            (ground.workspace / file.path).write_bytes(b"overwritten")
        return hurt(ground)
    ref = await blobs.put(encode(WorkspaceTree(files=files)))
    return await refused_or_hurt(ground, Workspace(ground.workspace, blobs, TREE).materialise(ref))


async def linked_tree(ground: Ground, sandboxed: bool) -> bool:
    """A workspace whose directory was a link when it was made."""
    (ground.workspace / "out").symlink_to(ground.outside)
    if not sandboxed:
        (ground.workspace / "out" / "canary").write_text("overwritten")
        return hurt(ground)
    blobs = store(ground)
    files = (WorkspaceFile(path="out/canary", content=await blobs.put(b"overwritten")),)
    ref = await blobs.put(encode(WorkspaceTree(files=files)))
    return await refused_or_hurt(ground, Workspace(ground.workspace, blobs, TREE).materialise(ref))


async def linked_snapshot(ground: Ground, sandboxed: bool) -> bool:
    """A workspace with a link to a secret, kept for people to download."""
    (ground.workspace / "link").symlink_to(ground.canary)
    if not sandboxed:
        return ground.token in "".join(path.read_text() for path in ground.workspace.iterdir())
    blobs = store(ground)
    snapshot = await Workspace(ground.workspace, blobs, TREE).snapshot()
    kept = [await blobs.get(file.content) for file in snapshot.tree.files if not file.link]
    return ground.token.encode() in b"".join(kept)


PATCH = """--- a/../outside/canary
+++ b/../outside/canary
@@ -1 +1 @@
-{token}
\\ No newline at end of file
+overwritten
"""


async def patch(ground: Ground, sandboxed: bool) -> bool:
    """A patch of a file outside."""
    text = PATCH.format(token=ground.token)
    if not sandboxed:
        await done(["git", "apply", "--unsafe-paths", "-"], ground.workspace, text.encode())
        return hurt(ground)
    return await refused_or_hurt(ground, run(ApplyPatch(Sandbox(BOUNDS)), ground, patch=text))


async def search(ground: Ground, sandboxed: bool) -> bool:
    """A search through a link to the outside."""
    (ground.workspace / "way").symlink_to(ground.outside)
    if not sandboxed:
        return ground.token in await done(["grep", "-rh", ".", "way/"], ground.workspace)
    try:
        result = await run(SearchFiles(Sandbox(BOUNDS)), ground, pattern=".", path="way")
    except MoontideError:
        return False
    return ground.token in repr(result)


async def repository_settings(ground: Ground, sandboxed: bool) -> bool:
    """A repository whose settings start a program when a patch is made of it."""
    script = f"echo overwritten > {ground.canary}"
    await done(["git", "init", "-q"], ground.workspace)
    (ground.workspace / "file").write_text("one\n")
    with (ground.workspace / ".git" / "config").open("a") as config:
        config.write(f'[core]\n\tfsmonitor = "{script}; false"\n[diff]\n\texternal = "{script}; true"\n')
    for path in (ground.workspace, *ground.workspace.rglob("*")):
        os.chown(path, ground.workspace.stat().st_uid, ground.workspace.stat().st_gid)
    if not sandboxed:
        owner = f"safe.directory={ground.workspace}"
        await done(["git", "-c", owner, "add", "-A"], ground.workspace)
        await done(["git", "-c", owner, "diff", "--no-index", "/dev/null", "file"], ground.workspace)
        return hurt(ground)
    return await refused_or_hurt(ground, run(Patch(Sandbox(BOUNDS)), ground, await bundle(ground)))


class Planted:
    """What runs a program when its pickle is read."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self._command,)


async def variables(ground: Ground, sandboxed: bool) -> bool:
    """Variables of a session that start a program when they are read."""
    planted = pickle.dumps({"x": Planted(f"echo overwritten > {ground.canary}")})
    if not sandboxed:
        await asyncio.to_thread(pickle.loads, planted)
        return hurt(ground)
    blobs = store(ground)
    sessions = Sessions(Sandbox(BOUNDS), blobs, 1)
    try:
        tool = Python(sessions, MIB, MIB)
        return await refused_or_hurt(ground, run(tool, ground, session=await blobs.put(planted), code="1"))
    finally:
        await sessions.close()


async def refused_or_hurt(ground: Ground, work: Any) -> bool:
    with suppress(MoontideError):
        await work
    return hurt(ground)


async def run(
    tool: Tool, ground: Ground, repository: BlobRef | None = None, session: BlobRef | None = None, **arguments: Any
) -> Result:
    context = RequestContext(request_id="escape", deadline_unix_seconds=2e9)
    call = Call(
        call_id="escape-1-1",
        run_id="escape",
        context=context,
        arguments=arguments,
        blobs=store(ground),
        progress=lambda words: None,
        workspace=ground.workspace,
        session=session,
        repository=repository,
    )
    return await tool.run(call)


def store(ground: Ground) -> BlobStore:
    return BlobStore.open((ground.outside.parent / "blobs").as_uri())


async def bundle(ground: Ground) -> BlobRef:
    """A repository of one commit."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        identity = ("-c", "user.name=t", "-c", "user.email=t@localhost")
        await done(["git", "init", "-q"], root)
        await done(["git", *identity, "commit", "-q", "--allow-empty", "-m", "one"], root)
        await done(["git", "bundle", "create", "-q", "bundle", "HEAD"], root)
        return await store(ground).put((root / "bundle").read_bytes())


async def done(command: list[str], folder: Path, given: bytes = b"") -> str:
    """What it said, however it ended."""
    ended = await asyncio.to_thread(subprocess.run, command, cwd=folder, input=given, capture_output=True, check=False)
    return (ended.stdout + ended.stderr).decode("utf-8", "replace")


def _case(attempt: Any, *, quick: bool = False) -> Case:
    return Case("paths", attempt.__doc__.strip().rstrip("."), attempt, quick)


CASES = [
    by_name("read_file along ..", dots, plain_read, our_read, quick=True),
    by_name("read_file of an absolute path", absolute, plain_read, our_read),
    by_name("read_file along .. behind the workspace's own name", mounted_dots, plain_read, our_read),
    by_name("read_file through a link", link, plain_read, our_read),
    by_name("read_file through a directory that is a link", link_on_the_way, plain_read, our_read),
    by_name("write_file along ..", dots, plain_write, our_write),
    by_name("write_file through a link", link, plain_write, our_write, quick=True),
    by_name("write_file through a directory that is a link", link_on_the_way, plain_write, our_write),
    by_name("edit_file through a link", link, plain_edit, our_edit),
    by_name("list_files through a link", directory_of_the_secret, plain_list, our_list),
    _case(tree, quick=True),
    _case(linked_tree),
    _case(linked_snapshot),
    _case(patch, quick=True),
    _case(search),
    _case(repository_settings),
    _case(variables, quick=True),
]
