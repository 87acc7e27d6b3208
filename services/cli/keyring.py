"""A keys file that people and programs change: read, changed line by line, replaced whole under a lock.

Input: a path and changes. Output: the file, readable by its owner only, and what it holds. A gateway that reads at the
same time sees the file before or after a change. It must not know how anything is shown.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from shared.errors import BadInput, NotFound, Unavailable
from shared.keys import Entry, KeyEntry, KeysFile, Quota, TenantEntry, parse, parse_line, render_line

MODE = 0o600

Change = Callable[[Entry], Entry]


class Keyring:
    """Methods raise BadInput(``keys.file``) when the file is none of ours, and Unavailable(``keys.unwritable``)."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    def read(self) -> KeysFile:
        """A file that is not there holds nothing."""
        return parse(self._read())

    def add(self, entry: KeyEntry) -> None:
        with self._changing() as lines:
            lines.append(render_line(entry))

    def change_key(self, key_id: str, change: Callable[[KeyEntry], KeyEntry]) -> KeyEntry:
        """A key that lies there as it is becomes its hash. Raises NotFound(``keys.not_found``)."""
        with self._changing() as lines:
            for number, line in enumerate(lines):
                entry = parse_line(line, number + 1)
                if isinstance(entry, KeyEntry) and entry.key_id == key_id:
                    changed = change(entry)
                    lines[number] = render_line(changed)
                    return changed
            raise NotFound("keys.not_found", f"{self.path} has no key {key_id}", param="key_id")

    def change_tenant(self, tenant: str, change: Callable[[TenantEntry], TenantEntry]) -> TenantEntry:
        """One without an entry gets one."""
        with self._changing() as lines:
            for number, line in enumerate(lines):
                entry = parse_line(line, number + 1)
                if isinstance(entry, TenantEntry) and entry.tenant == tenant:
                    changed = change(entry)
                    lines[number] = render_line(changed)
                    return changed
            changed = change(TenantEntry(tenant=tenant))
            lines.append(render_line(changed))
            return changed

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes() if self.path.exists() else b""
        except OSError as error:
            raise BadInput("keys.file", f"{self.path} cannot be read: {error.strerror}") from error

    @contextmanager
    def _changing(self) -> Iterator[list[bytes]]:
        """The lines; what they have become is checked as a whole, and written when the block ends well."""
        with _our_errors(self.path), self._locked():
            lines = self._read().splitlines()
            parse(b"\n".join(lines))
            yield lines
            data = b"".join(line + b"\n" for line in lines)
            parse(data)
            self._replace(data)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f".{self.path.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _replace(self, data: bytes) -> None:
        mode = self.path.stat().st_mode & 0o777 if self.path.exists() else MODE
        with tempfile.NamedTemporaryFile(dir=self.path.parent, prefix=f".{self.path.name}.", delete=False) as file:
            partial = Path(file.name)
            try:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
                partial.replace(self.path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise


@contextmanager
def _our_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable("keys.unwritable", f"{path} cannot be written: {error.strerror}") from error


def with_quota(quota: Quota, given: dict[str, int | None]) -> Quota:
    """``given``: new limits by name; None lifts one."""
    return msgspec.structs.replace(quota, **given)
