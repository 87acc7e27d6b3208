"""Workspace trees: which are sound, and what to do to turn one folder into another.

Input: trees and bounds. Output: the same tree, or BadInput in words; a plan. Pure; must not know disks or blobs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from schemas.tools import WorkspaceFile, WorkspaceTree
from shared.errors import BadInput

MAX_DEPTH = 64
MAX_PATH_BYTES = 2048


class TreeBounds(msgspec.Struct, frozen=True, kw_only=True):
    max_files: int
    """Links and empty directories count too."""
    max_bytes: int


@dataclass(frozen=True)
class Plan:
    """Removals come first, the deepest first."""

    remove: tuple[str, ...]
    directories: tuple[str, ...]
    write: tuple[WorkspaceFile, ...]


def parents(path: str) -> Iterable[str]:
    """``a/b/c``: ``a``, ``a/b``."""
    end = path.find("/")
    while end != -1:
        yield path[:end]
        end = path.find("/", end + 1)


def built(files: Iterable[WorkspaceFile], directories: Iterable[str]) -> WorkspaceTree:
    """The one tree that holds these; ``directories`` may name full ones too."""
    ordered = tuple(sorted(files, key=lambda file: file.path))
    named = set(directories)
    full = {parent for path in (*(file.path for file in ordered), *named) for parent in parents(path)}
    return WorkspaceTree(files=ordered, directories=tuple(sorted(named - full)))


def check(tree: WorkspaceTree, bounds: TreeBounds) -> None:
    """Raises BadInput(``workspace.damaged``, ``workspace.too_large``)."""
    paths = [*(file.path for file in tree.files), *tree.directories]
    check_size(len(paths), sum(file.content.size_bytes for file in tree.files), bounds)
    taken = set(paths)
    if len(taken) != len(paths):
        raise _damaged("a path twice")
    for path in paths:
        check_path(path)
        if any(parent in taken for parent in parents(path)):
            raise _damaged(f"{path!r} inside something that is no directory")


def check_path(path: str) -> None:
    """A path as trees hold it: relative, plain, bounded."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise _damaged(f"the path {path[:100]!r}")
    if len(parts) > MAX_DEPTH or len(path.encode("utf-8", "replace")) > MAX_PATH_BYTES:
        raise BadInput("workspace.too_large", f"the path {path[:100]!r}… is too deep or too long for a workspace")


def check_size(files: int, size_bytes: int, bounds: TreeBounds) -> None:
    if files > bounds.max_files:
        raise BadInput("workspace.too_large", f"the workspace holds more than {bounds.max_files} files; remove some")
    if size_bytes > bounds.max_bytes:
        mib = bounds.max_bytes // 1024**2
        raise BadInput("workspace.too_large", f"the workspace holds more than {mib} MiB; remove or shorten some files")


def difference(have: Mapping[str, WorkspaceFile | None], want: WorkspaceTree) -> Plan:
    """``have``: every path of a folder; None for what has to be written anew, directories (with ``/`` at their end)
    apart."""
    wanted = {file.path: file for file in want.files}
    directories = {parent for path in (*wanted, *want.directories) for parent in parents(path)} | set(want.directories)
    keep = {path for path, file in wanted.items() if have.get(path) == file}
    there = {path.rstrip("/") for path in have if path.endswith("/")}
    remove = {path for path in have if not path.endswith("/") and path not in keep}
    remove |= {f"{path}/" for path in there - directories}
    return Plan(
        remove=tuple(sorted(remove, reverse=True)),
        directories=tuple(sorted(directories - there)),
        write=tuple(file for file in want.files if file.path not in keep),
    )


def _damaged(what: str) -> BadInput:
    return BadInput("workspace.damaged", f"the workspace cannot be made: it has {what}")
