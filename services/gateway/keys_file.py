"""The keys file on disk: read at the start, and again whenever it changes, without a restart.

Input: a path. Output: ``KeysFile``s. One that cannot be read or used changes nothing: what was taken before stays, and
that is said, once for each state of the file. It must not know who asks.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from services.gateway.beside import beside
from shared.clock import Clock
from shared.errors import BadInput, Internal
from shared.keys import KEYS_FILE_MAX_BYTES, KeysFile, parse

log = logging.getLogger(__name__)

RECENT_SECONDS = 3.0
"""A file that was changed so lately is read at each look: file systems round times, and two changes may share one."""

Signature = tuple[int, int, int]


def read(path: Path) -> KeysFile:
    """Raises Internal(``gateway.keys_file``): it cannot be read, or used, or holds no key."""
    try:
        with path.open("rb") as file:
            entries = parse(file.read(KEYS_FILE_MAX_BYTES + 1))
    except OSError as error:
        raise Internal("gateway.keys_file", f"keys file {path} cannot be read: {error.strerror}") from error
    except BadInput as error:
        raise Internal("gateway.keys_file", f"keys file {path} cannot be used: {error.message}") from error
    if not entries.keys:
        raise Internal("gateway.keys_file", f"keys file {path} holds no key")
    return entries


def warn_of_plain(path: Path, entries: KeysFile) -> None:
    if entries.plain_keys:
        log.warning(
            "keys lie in a file as they are; make new ones with 'moontide keys add', which stores hashes only",
            extra={"path": str(path), "plain_keys": entries.plain_keys},
        )


class KeysWatch:
    """Looks at ``path`` now and then, and calls ``take`` once it holds something else than ``current``."""

    def __init__(self, path: Path, clock: Clock, current: KeysFile, take: Callable[[KeysFile], None]) -> None:
        self._path = path
        self._clock = clock
        self._take = take
        self._seen: Signature | None = None
        self._current = current
        self._said = ""

    @asynccontextmanager
    async def running(self, interval_seconds: float) -> AsyncIterator[None]:
        async with beside(self._run(interval_seconds), "watch keys"):
            yield

    async def _run(self, interval_seconds: float) -> None:
        while True:
            await self.look()
            await self._clock.sleep(interval_seconds)

    async def look(self) -> None:
        try:
            entries = await asyncio.to_thread(self._changed)
        except Internal as error:
            self._complain(error.message)
            return
        if entries is None:
            return
        self._said = ""
        if entries != self._current:
            self._current = entries
            self._take(entries)
            warn_of_plain(self._path, entries)
            log.info("keys taken", extra={"keys": len(entries.keys), "tenants": len(entries.tenants)})

    def _changed(self) -> KeysFile | None:
        """What the file holds, or None when it is as it was. Raises Internal."""
        try:
            found = self._path.stat()
        except OSError as error:
            raise self._gone() from error
        signature = (found.st_mtime_ns, found.st_size, found.st_ino)
        if signature == self._seen and abs(self._clock.unix_seconds() - found.st_mtime) > RECENT_SECONDS:
            return None
        self._seen = signature
        try:
            return read(self._path)
        except Internal as error:
            if self._path.exists():
                raise
            raise self._gone() from error  # since it was looked at

    def _gone(self) -> Internal:
        self._seen = None
        return Internal("gateway.keys_file", f"keys file {self._path} is gone")

    def _complain(self, reason: str) -> None:
        if reason != self._said:
            self._said = reason
            log.error("keys file not taken, the keys from before go on", extra={"reason": reason})
