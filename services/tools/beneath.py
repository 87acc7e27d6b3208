"""Opening what lies beneath a folder, and nothing else: step by step from a descriptor, each link looked at by us.

Input: a folder and a path from a model. Output: descriptors. A path may begin with ``/workspace/``, which is what the
folder is called inside the sandbox. Links are followed while they stay beneath; whatever happens to the folder at the
same time, no step leaves it. Must not know what files are for.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from shared.errors import BadInput, NotFound

MOUNT = "/workspace"
"""Where sandboxed programs see the folder."""
MAX_LINKS = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Walk:
    """A position beneath the folder: the descriptors from its root to here. ``..`` goes back along them."""

    def __init__(self, root: Path, path: str) -> None:
        self._path = path
        self._links = 0
        self._stack = [os.open(root, _DIRECTORY)]
        self._todo = deque(self._parts(path))

    @property
    def here(self) -> int:
        return self._stack[-1]

    def close(self) -> None:
        while self._stack:
            os.close(self._stack.pop())

    def to_last(self, *, make: bool, follow: bool) -> str:
        """Goes to the folder that holds the last part; returns the part, ``.`` for where the walk is. ``make``: missing
        folders are made. ``follow``: a link at the end is gone along too."""
        while self._todo:
            part = self._todo.popleft()
            if part == "..":
                self._back()
            elif self._todo:
                self._enter(part, make)
            elif not (follow and self._along_link(part)):
                return part
        return "."

    def _parts(self, path: str) -> list[str]:
        if "\0" in path:
            raise BadInput("workspace.path", "a path holds no zero bytes")
        if path == MOUNT or path.startswith(f"{MOUNT}/"):
            self._to_root()
            path = path.removeprefix(MOUNT)
        elif path.startswith("/"):
            raise self._outside()
        return [part for part in path.split("/") if part not in ("", ".")]

    def _to_root(self) -> None:
        while len(self._stack) > 1:
            os.close(self._stack.pop())

    def _back(self) -> None:
        if len(self._stack) == 1:
            raise self._outside()
        os.close(self._stack.pop())

    def _enter(self, part: str, make: bool) -> None:
        if make:
            self._make(part)
        try:
            self._stack.append(os.open(part, _DIRECTORY, dir_fd=self.here))
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP) or not self._along_link(part):
                raise

    def _make(self, part: str) -> None:
        with suppress(FileExistsError):
            os.mkdir(part, 0o755, dir_fd=self.here)
            hand_over(part, self.here, self._stack[0])

    def _along_link(self, part: str) -> bool:
        try:
            target = os.readlink(part, dir_fd=self.here)
        except OSError:
            return False
        self._links += 1
        if self._links > MAX_LINKS:
            raise BadInput("workspace.path", f"{self._path[:200]!r} goes along too many links", param="path")
        self._todo.extendleft(reversed(self._parts(target)))
        return True

    def _outside(self) -> BadInput:
        text = f"{self._path[:200]!r} is outside of the workspace; paths are relative to {MOUNT}"
        return BadInput("workspace.outside", text, param="path")


@contextmanager
def located(root: Path, path: str, *, make: bool = False, follow: bool = True) -> Iterator[tuple[int, str]]:
    """(descriptor of the folder, last part). Raises BadInput(``workspace.outside``, ``workspace.path``), NotFound."""
    with ExitStack() as stack, _in_words(path):
        walk = Walk(root, path)
        stack.callback(walk.close)
        name = walk.to_last(make=make, follow=follow)
        yield walk.here, name


@contextmanager
def file(root: Path, path: str, flags: int) -> Iterator[int]:
    """A descriptor of the regular file. ``O_CREAT`` makes missing folders too."""
    creates = bool(flags & os.O_CREAT)
    with located(root, path, make=creates) as (folder, name):
        if name == ".":
            raise BadInput("workspace.path", f"{path[:200]!r} is a directory", param="path")
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o644, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BadInput("workspace.path", f"{path[:200]!r} is no regular file", param="path")
            if creates:
                own_as(descriptor, root)
            yield descriptor
        finally:
            os.close(descriptor)


@contextmanager
def directory(root: Path, path: str) -> Iterator[int]:
    with located(root, path) as (folder, name):
        descriptor = os.open(name, _DIRECTORY, dir_fd=folder)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def place(root: Path, path: str) -> str:
    """The directory's path inside the sandbox, without links."""
    with located(root, path) as (folder, name):
        descriptor = os.open(name, _DIRECTORY, dir_fd=folder)
        try:
            real = Path(f"/proc/self/fd/{descriptor}").readlink()
        finally:
            os.close(descriptor)
    return os.path.normpath(Path(MOUNT) / real.relative_to(root.resolve()))


def hand_over(name: str, folder: int, root: int) -> None:
    """``name`` gets the owner of the workspace, where we may give things away."""
    owner = os.fstat(root)
    if os.geteuid() == 0:
        os.chown(name, owner.st_uid, owner.st_gid, dir_fd=folder, follow_symlinks=False)


def own_as(descriptor: int, root: Path) -> None:
    """As ``hand_over``, for what is open."""
    if os.geteuid() == 0:
        owner = root.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


@contextmanager
def _in_words(path: str) -> Iterator[None]:
    shown = repr(path[:200])
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("workspace.not_found", f"there is no {shown} in the workspace", param="path") from error
    except IsADirectoryError as error:
        raise BadInput("workspace.path", f"{shown} is a directory", param="path") from error
    except NotADirectoryError as error:
        raise BadInput(
            "workspace.path", f"{shown} goes through a file as if it were a directory", param="path"
        ) from error
    except OSError as error:
        text = f"{shown} cannot be opened: {os.strerror(error.errno or 0).lower()}"
        raise BadInput("workspace.path", text, param="path") from error
