"""Trees and folders: whatever was in a folder, it becomes the wanted tree, and is read back as the same one."""

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.blobs import BlobRef
from schemas.codec import encode
from schemas.tools import WorkspaceFile, WorkspaceTree
from services.tools import tree
from services.tools.batch import read_all
from services.tools.folder import Signature
from services.tools.tree import TreeBounds
from services.tools.workspace import NOTHING, Workspace
from shared.blobs.store import BlobStore
from shared.errors import BadInput

BOUNDS = TreeBounds(max_files=200, max_bytes=8_000_000)
NAMES = st.sampled_from(["a", "b", "c", "ü", ".git", "with space"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
ENTRIES = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=20), st.booleans()),
    st.tuples(st.just("link"), st.sampled_from(["a", "../a", "/etc/passwd", "b/c"])),
    st.tuples(st.just("directory")),
)
CONTENTS = st.dictionaries(PATHS, ENTRIES, max_size=12).map(
    lambda found: {p: e for p, e in found.items() if not any(parent in found for parent in tree.parents(p))}
)


async def stored(blobs: BlobStore, contents: dict) -> tuple[BlobRef, WorkspaceTree]:
    files = []
    for path, entry in contents.items():
        if entry[0] == "file":
            files.append(WorkspaceFile(path=path, content=await blobs.put(entry[1]), executable=entry[2]))
        elif entry[0] == "link":
            files.append(WorkspaceFile(path=path, content=NOTHING, link=entry[1]))
    whole = tree.built(files, [path for path, entry in contents.items() if entry[0] == "directory"])
    return await blobs.put(encode(whole)), whole


def workspace(tmp_path: Path, name: str = "folder") -> tuple[Workspace, BlobStore]:
    blobs = BlobStore.open((tmp_path / "blobs").as_uri())
    (tmp_path / name).mkdir(exist_ok=True)
    return Workspace(tmp_path / name, blobs, BOUNDS), blobs


@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps=st.lists(CONTENTS, min_size=1, max_size=4))
def test_a_folder_goes_from_tree_to_tree(steps: list[dict], tmp_path_factory: pytest.TempPathFactory) -> None:
    async def run() -> None:
        here, blobs = workspace(tmp_path_factory.mktemp("tree"))
        for contents in steps:
            ref, whole = await stored(blobs, contents)
            await here.materialise(ref)
            assert (here.path / "outside").exists() is False
            for path, entry in contents.items():
                target = here.path / path
                if entry[0] == "file":
                    assert target.read_bytes() == entry[1]
                    assert os.access(target, os.X_OK) is entry[2]
                elif entry[0] == "link":
                    assert str(target.readlink()) == entry[1]
                else:
                    assert target.is_dir()
            snapshot = await here.snapshot()
            assert (snapshot.ref, snapshot.tree, snapshot.changed) == (ref, whole, ())

    asyncio.run(run())


async def test_only_what_changed_is_read_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, blobs = workspace(tmp_path)
    await here.materialise((await stored(blobs, {"a": ("file", b"1", False), "b/c": ("file", b"2", False)}))[0])
    reads: list[str] = []

    def noted(root: Path, paths: list[str]) -> list[tuple[Signature, bytes]]:
        reads.extend(paths)
        return read_all(root, paths)

    monkeypatch.setattr("services.tools.workspace.read_all", noted)
    status = (here.path / "a").stat()
    (here.path / "a").write_bytes(b"3")
    os.utime(here.path / "a", ns=(status.st_atime_ns, status.st_mtime_ns))  # as an adversary would
    snapshot = await here.snapshot()
    assert reads == ["a"]
    assert [file.path for file in snapshot.changed] == ["a"]
    assert [await blobs.get(file.content) for file in snapshot.tree.files] == [b"3", b"2"]


async def test_what_a_failed_call_left_is_undone(tmp_path: Path) -> None:
    here, blobs = workspace(tmp_path)
    ref, whole = await stored(blobs, {"keep/me": ("file", b"1", False)})
    await here.materialise(ref)
    (here.path / "keep/me").unlink()
    (here.path / "keep/me").mkdir()
    (here.path / "keep/me/junk").write_text("junk")
    os.mkfifo(here.path / "pipe")
    (here.path / "link").symlink_to(tmp_path)
    deep = here.path / "deep"
    for _ in range(50):
        deep = deep / "d"
    deep.mkdir(parents=True)
    deep.chmod(0)
    await here.materialise(ref)
    assert (await here.snapshot()).tree == whole


async def test_directories_deeper_than_any_path_are_removed(tmp_path: Path) -> None:
    here, _ = workspace(tmp_path)
    descriptor = os.open(here.path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d" * 100, dir_fd=descriptor)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    with pytest.raises(BadInput, match="too deep"):
        await here.snapshot()
    await here.materialise(None)
    assert list(here.path.iterdir()) == []


async def test_what_no_tree_holds_is_named(tmp_path: Path) -> None:
    here, _ = workspace(tmp_path)
    os.mkfifo(here.path / "pipe")
    (here.path / os.fsdecode(b"\xff")).write_text("no text")
    snapshot = await here.snapshot()
    assert snapshot.tree == WorkspaceTree()
    assert sorted(os.fsencode(name) for name in snapshot.left_out) == [b"pipe", b"\xff"]


async def test_too_much_is_refused_in_words(tmp_path: Path) -> None:
    here, _ = workspace(tmp_path)
    with (here.path / "sparse").open("wb") as file:
        file.truncate(BOUNDS.max_bytes + 1)
    with pytest.raises(BadInput, match="more than 7 MiB"):
        await here.snapshot()
    (here.path / "sparse").unlink()
    for number in range(BOUNDS.max_files + 1):
        (here.path / f"f{number}").touch()
    with pytest.raises(BadInput, match="more than 200 files"):
        await here.snapshot()


async def test_large_files_pass_in_pieces(tmp_path: Path) -> None:
    here, _ = workspace(tmp_path)
    data = os.urandom(5_000_000)
    (here.path / "large").write_bytes(data)
    snapshot = await here.snapshot()
    other, _ = workspace(tmp_path, "other")
    await other.materialise(snapshot.ref)
    assert (other.path / "large").read_bytes() == data


@pytest.mark.parametrize(
    "paths",
    [
        ["../a"],
        ["/a"],
        ["a//b"],
        ["a/./b"],
        [""],
        ["a", "a"],
        ["a", "a/b"],
        ["a\0b"],
        ["/".join("d" * 70)],
        ["d" * 3000],
    ],
)
async def test_damaged_trees_are_refused(tmp_path: Path, paths: list[str]) -> None:
    here, blobs = workspace(tmp_path)
    content = await blobs.put(b"x")
    files = tuple(WorkspaceFile(path=path, content=content) for path in paths)
    with pytest.raises(BadInput, match="workspace"):
        await here.materialise(await blobs.put(encode(WorkspaceTree(files=files))))
    assert list(here.path.iterdir()) == []


async def test_a_link_in_the_tree_never_leads_a_write_out(tmp_path: Path) -> None:
    here, blobs = workspace(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (here.path / "a").symlink_to(outside)
    ref, _ = await stored(blobs, {"a/b": ("file", b"x", False)})
    await here.materialise(ref)
    assert list(outside.iterdir()) == []
    assert (here.path / "a" / "b").read_bytes() == b"x"
