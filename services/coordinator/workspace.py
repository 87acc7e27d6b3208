"""The workspace that a run begins with: its seed files as one stored tree. Equal specs give equal trees. Pure.

Input: a ``RunSpec``. Output: a ``WorkspaceTree``, or None when the run begins with nothing or with a repository.
"""

import re

from schemas.runs import RunSpec
from schemas.tools import WorkspaceFile, WorkspaceTree
from shared.errors import BadInput

MAX_PATH_CHARACTERS = 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")


def seed_tree(spec: RunSpec) -> WorkspaceTree | None:
    if not spec.files:
        return None
    files = [WorkspaceFile(path=file.path, content=file.content) for file in spec.files]
    return WorkspaceTree(files=tuple(sorted(files, key=lambda file: file.path)))


def check_paths(spec: RunSpec) -> None:
    """Raises BadInput(``run.file_path``) naming the file whose path is no clean relative one, or is there twice."""
    paths = [file.path for file in spec.files]
    folders = {folder for path in paths for folder in _folders(path)}
    seen: set[str] = set()
    for index, path in enumerate(paths):
        if not _is_clean(path) or path in seen or path in folders:
            message = f"{path[:100]!r} cannot be a file of the workspace"
            raise BadInput("run.file_path", message, param=f"files[{index}].path")
        seen.add(path)


def _is_clean(path: str) -> bool:
    if not path or len(path) > MAX_PATH_CHARACTERS or _CONTROL.search(path):
        return False
    return all(part not in ("", ".", "..", ".git") for part in path.split("/"))


def _folders(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]
