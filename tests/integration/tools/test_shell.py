"""``shell``, ``search_files``, ``apply_patch`` and runs on a repository, in real sandboxes."""

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from schemas.blobs import BlobRef
from schemas.tools import ToolFinished
from tests.integration.tools.stand import Stand, text

IDENTITY = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]


def git(folder: Path, *words: str, given: bytes = b"") -> str:
    command = ["git", *IDENTITY, *words]
    return subprocess.run(command, cwd=folder, check=True, input=given, stdout=subprocess.PIPE).stdout.decode()


async def test_a_command_changes_the_workspace_and_tells_its_end(stand: Stand) -> None:
    async with stand.service():
        assert (
            await stand.said("shell", command="mkdir -p a/b && echo hi > a/b/c && echo out && exit 3")
            == "out\n[exit code 3]"
        )
        assert await stand.said("shell", command="pwd; cat c", directory="a/b") == "/workspace/a/b\nhi"
        assert await stand.said("shell", command="true") == "[no output]"
    assert await stand.files() == {"a/b/c": b"hi\n"}


async def test_time_is_bounded_and_what_was_said_is_told(stand: Stand) -> None:
    async with stand.service():
        begun = time.monotonic()
        told = await stand.said("shell", command="echo begun; sleep 60 & sleep 60", timeout_seconds=0.5)
        assert told == "begun\n[ended: longer than 0.5 seconds]"
        assert time.monotonic() - begun < 10


async def test_cancelling_ends_a_command_within_a_second(stand: Stand) -> None:
    async with stand.service():
        asking = asyncio.create_task(stand.heard("shell", "run-1-1-0", arguments={"command": "touch x; sleep 60"}))
        await asyncio.sleep(0.7)
        begun = time.monotonic()
        await stand.cancel("run-1-1-0")
        outcome = (await asking)[-1]
        assert time.monotonic() - begun < 1
    assert isinstance(outcome, ToolFinished)
    assert (outcome.failure and outcome.failure.code, outcome.workspace) == ("tool.cancelled", None)


async def test_files_links_and_modes_pass_from_call_to_call(stand: Stand) -> None:
    async with stand.service():
        await stand.said("shell", command="echo 'echo ran' > run.sh; chmod +x run.sh; ln -s run.sh link; mkdir empty")
    async with stand.service():
        assert await stand.said("shell", command="./link; ls -d empty; readlink link") == "ran\nempty\nrun.sh"
        await stand.said("shell", command="ln -s /etc/hostname out; rm -r empty run.sh")
        refused = await stand.call("read_file", path="out")
    assert refused.failure is not None
    assert refused.failure.code == "workspace.outside"


async def test_a_workspace_that_grew_too_large_stays_as_it_was(stand: Stand) -> None:
    async with stand.service(workspace_bytes=20 * 1024 * 1024, file_bytes=15 * 1024 * 1024):
        await stand.said("shell", command="echo kept > kept")
        told = await stand.call(
            "shell", command="for i in 1 2 3; do head -c 14000000 /dev/urandom > f$i; sleep 0.2; done"
        )
        assert told.workspace is None
        assert await stand.said("list_files") == "kept  5 bytes"


async def test_searching(stand: Stand) -> None:
    async with stand.service():
        await stand.call("write_file", path="src/a.py", content="def f():\n    return 'needle'\n")
        await stand.call("write_file", path="src/b.txt", content="needle in text\n")
        both = "src/a.py:2:     return 'needle'\nsrc/b.txt:1: needle in text"
        assert await stand.said("search_files", pattern="needle") == both
        assert await stand.said("search_files", pattern="need.e", glob="*.py") == "src/a.py:2:     return 'needle'"
        assert await stand.said("search_files", pattern="absent", path="src") == "no matches"
        assert "is no regular expression" in await stand.said("search_files", pattern="(")
        assert "outside of the workspace" in await stand.said("search_files", pattern="x", path="../..")


async def test_a_patch_is_applied_whole_or_not_at_all(stand: Stand) -> None:
    good = "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n--- /dev/null\n+++ b/new/g\n@@ -0,0 +1 @@\n+new\n"
    async with stand.service():
        await stand.call("write_file", path="f", content="one\ntwo\n")
        assert "Applied patch f cleanly" in await stand.said("apply_patch", patch=good)
        assert await stand.files() == {"f": b"one\n2\n", "new/g": b"new\n"}
        half = "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n one\n-2\n+3\n--- a/new/g\n+++ b/new/g\n@@ -1 +1 @@\n-absent\n+x\n"
        assert "nothing was changed" in await stand.said("apply_patch", patch=half)
        out = "--- /dev/null\n+++ b/../../escaped\n@@ -0,0 +1 @@\n+x\n"
        assert "nothing was changed" in await stand.said("apply_patch", patch=out)
        assert await stand.files() == {"f": b"one\n2\n", "new/g": b"new\n"}
        miscounted = "--- a/f\n+++ b/f\n@@ -1,7 +1,9 @@\n one\n-2\n+two\n+three\n"
        assert "Applied patch f cleanly" in await stand.said("apply_patch", patch=miscounted)
        assert (await stand.files())["f"] == b"one\ntwo\nthree\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits and a file that is ignored."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q")
    for number in (1, 2):
        (root / "code.py").write_text(f"def f():\n    return {number}\n")
        (root / ".gitignore").write_text("ignored\n")
        git(root, "add", "-A")
        git(root, "commit", "-qm", f"commit {number}")
    return root


async def bundled(stand: Stand, repository: Path, *refs: str) -> BlobRef:
    file = repository.parent / "bundle"
    git(repository, "bundle", "create", "-q", str(file), *refs)
    return await stand.blobs.put(file.read_bytes())


@pytest.mark.parametrize("refs", [("HEAD",), ("main",), ("HEAD", "main")])
async def test_a_run_on_a_repository_ends_with_a_patch(stand: Stand, repository: Path, refs: tuple[str, ...]) -> None:
    bundle = await bundled(stand, repository, *refs)
    async with stand.service():
        log = text(await stand.call("shell", bundle, command="git log --format=%s; git status --short"))
        assert log == "commit 2\ncommit 1"
        assert text(await stand.call("$patch", bundle)) == "nothing was changed"
        work = """
sed -i s/2/3/ code.py; echo x > ignored; mkdir sub; printf '\\000\\001' > sub/binary; chmod +x code.py
git add -A; git commit -qm mine; echo more > later; rm -rf .git/objects
"""
        await stand.call("shell", bundle, command=work)
        patch = await stand.call("$patch", bundle)
    (file,) = patch.files
    assert file.media_type == "text/x-diff"
    data = await stand.blobs.get(file.content)
    git(repository, "apply", "--index", "-", given=data)
    assert git(repository, "status", "--short").splitlines() == ["M  code.py", "A  later", "A  sub/binary"]
    assert (repository / "code.py").read_text() == "def f():\n    return 3\n"


async def test_a_bundle_that_is_none_is_refused(stand: Stand) -> None:
    bundle = await stand.blobs.put(b"no bundle")
    async with stand.service():
        outcome = await stand.call("shell", bundle, command="true")
    assert outcome.failure is not None
    assert outcome.failure.code == "tools.repository"
