"""Folders at hand: never two calls in one, never two runs' files in one, the longest unused one goes first."""

import asyncio
import os
from pathlib import Path

import pytest

from schemas.blobs import BlobRef
from services.tools.tree import TreeBounds
from services.tools.workspaces import Workspaces
from shared.blobs.store import BlobStore
from shared.errors import NotFound

BOUNDS = TreeBounds(max_files=100, max_bytes=1_000_000)


class Shelf:
    def __init__(self, folder: Path, count: int, first_uid: int | None = None) -> None:
        blobs = BlobStore.open((folder / "blobs").as_uri())
        self.root = folder / "root"
        self.root.mkdir()
        self.workspaces = Workspaces(blobs, self.root, BOUNDS, count, first_uid)
        self.discarded: list[Path] = []
        self.workspaces.on_discard(self._discard)

    async def _discard(self, path: Path) -> None:
        self.discarded.append(path)

    async def write(self, run: str, ref: BlobRef | None, name: str) -> tuple[BlobRef, Path]:
        async with self.workspaces.borrowed(run, ref) as workspace:
            (workspace.path / name).write_text(name)
            return (await workspace.snapshot()).ref, workspace.path


async def test_a_run_comes_back_to_its_folder(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 2)
    ref, first = await shelf.write("run-1", None, "a")
    ref, second = await shelf.write("run-1", ref, "b")
    async with shelf.workspaces.borrowed("run-1", ref) as workspace:
        assert {path.name for path in workspace.path.iterdir()} == {"a", "b"}
    assert first == second == workspace.path


async def test_two_calls_of_a_run_at_once_have_a_folder_each(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 2)
    ref, _ = await shelf.write("run-1", None, "a")
    async with shelf.workspaces.borrowed("run-1", ref) as one, shelf.workspaces.borrowed("run-1", ref) as other:
        assert one.path != other.path
        assert [path.name for path in other.path.iterdir()] == ["a"]


async def test_the_longest_unused_folder_makes_room_and_nothing_of_it_is_seen(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 2)
    _, first = await shelf.write("run-1", None, "secret")
    await shelf.write("run-2", None, "b")
    async with shelf.workspaces.borrowed("run-3", None) as workspace:
        assert workspace.path == first
        assert list(workspace.path.iterdir()) == []
    assert shelf.discarded == [first]


async def test_a_folder_with_warm_state_is_preferred(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 3)
    ref, _ = await shelf.write("run-1", None, "a")
    async with shelf.workspaces.borrowed("run-1", ref) as one, shelf.workspaces.borrowed("run-1", ref) as other:
        paths = (one.path, other.path)
    for path in paths:
        async with shelf.workspaces.borrowed("run-1", ref, path) as workspace:
            assert workspace.path == path


async def test_a_tree_that_is_gone_costs_no_folder(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 1)
    lost = BlobRef(key="sha256/" + "0" * 64, size_bytes=3)
    for _ in range(3):
        with pytest.raises(NotFound):
            async with shelf.workspaces.borrowed("run-1", lost):
                pass
    await shelf.write("run-2", None, "a")


async def test_a_cancelled_call_is_out_of_the_folder_before_the_next_one_is_in(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 1)
    refs = [None]
    for number in range(30):
        async with shelf.workspaces.borrowed("run-1", refs[-1]) as workspace:
            for name in range(60):
                (workspace.path / f"{number}-{name}").write_text(str(number))
            refs.append((await workspace.snapshot()).ref if number % 2 else None)
        cancelled = asyncio.create_task(shelf.write("run-1", refs[-1], "x"))
        await asyncio.sleep(0.001 * (number % 7))
        cancelled.cancel()
        await asyncio.wait([cancelled])
    async with shelf.workspaces.borrowed("run-1", None) as workspace:
        assert list(workspace.path.iterdir()) == []


async def test_each_folder_has_a_user_of_its_own(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives folders away")
    shelf = Shelf(tmp_path, 2, first_uid=70_000)
    ref, _ = await shelf.write("run-1", None, "a")
    async with shelf.workspaces.borrowed("run-1", ref) as one, shelf.workspaces.borrowed("run-2", None) as other:
        assert {one.path.stat().st_uid, other.path.stat().st_uid} == {70_000, 70_001}
