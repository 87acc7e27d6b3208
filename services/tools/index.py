"""The embedded search: an FTS5 index over folders of this machine, kept up to date by modification times.

Input: folders, a question, or a ``local:`` address. Output: hits by BM25, and documents. Everything is bounded: files,
bytes of a file, bytes in all. Links are neither indexed nor read, nor are hidden files. The only file that knows
SQLite. Must not know tools or the web.
"""

import asyncio
import contextlib
import logging
import os
import re
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from services.tools.fetch import LOCAL, Document, plain
from services.tools.page_reader import read_page
from services.tools.search import Hit
from services.tools.search_text import match_expression, passages, spaced, unspaced
from shared.errors import BadInput, NotFound, Unavailable

FILE_PASSAGES = 1 << 14
"""Rows of one file: row id = file id times this, plus the passage's number."""
CANDIDATES = 8
"""Passages looked at for each hit wanted, since a file counts once."""
LOG = logging.getLogger("tools.index")
_HEADING = re.compile(r"^# (.+)$", re.MULTILINE)
HTML_NAMES = (".html", ".htm", ".xhtml")
SCHEMA = """
PRAGMA journal_mode=WAL;
PRAGMA synchronous=NORMAL;
CREATE TABLE IF NOT EXISTS files (
  id INTEGER PRIMARY KEY, address TEXT UNIQUE NOT NULL, stamp TEXT NOT NULL, title TEXT NOT NULL, bytes INTEGER NOT NULL
);
CREATE VIRTUAL TABLE IF NOT EXISTS passages USING fts5(
  title, body, start UNINDEXED, tokenize = 'porter unicode61 remove_diacritics 2'
);
"""
SEARCH = """
SELECT rowid, start, snippet(passages, 1, '', '', ' … ', 48) FROM passages
WHERE passages MATCH ? ORDER BY bm25(passages, 4.0, 1.0), rowid LIMIT ?
"""


@dataclass(frozen=True)
class IndexLimits:
    max_files: int = 20_000
    max_file_bytes: int = 2 * 1024 * 1024
    max_bytes: int = 512 * 1024 * 1024
    """Of all texts."""
    scan_seconds: float = 30.0
    """Between two looks at the folders."""


@dataclass(frozen=True)
class Found:
    """A file of the folders, before anybody has read it."""

    address: str
    path: Path
    stamp: str
    """Differs when the file does."""


class LocalIndex:
    """A search provider. Addresses are ``local:<folder's name>/<path>``."""

    name = "the local index"

    def __init__(self, folders: dict[str, Path], connection: sqlite3.Connection, limits: IndexLimits) -> None:
        self._folders = folders
        self._connection = connection
        self._limits = limits
        self._use = asyncio.Lock()
        self._scanned = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, folders: Sequence[Path], database: Path, limits: IndexLimits = IndexLimits()
    ) -> AsyncIterator["LocalIndex"]:
        """Looks at the folders now and again and again, until the block ends. Raises BadInput(``search.config``)."""
        named = _named(folders)
        database.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(database, timeout=30.0, check_same_thread=False)) as connection:
            connection.executescript(SCHEMA)
            index = cls(named, connection, limits)
            scanning = asyncio.create_task(index._keep_scanning())
            try:
                yield index
            finally:
                scanning.cancel()
                await asyncio.wait([scanning])

    async def search(self, question: str, limit: int) -> list[Hit]:
        """Best first. While the first scan lasts: from what is indexed by then."""
        expression = match_expression(question)
        if not expression:
            return []
        async with self._use:
            try:
                return await asyncio.to_thread(self._search, expression, limit)
            except sqlite3.Error as error:
                raise Unavailable("search.index", "the local index cannot be read", status=502) from error

    async def scanned(self) -> None:
        """Returns when every file has been looked at once."""
        await self._scanned.wait()

    async def read(self, address: str) -> Document:
        """A document of the folders. Raises NotFound(``search.not_found``) for everything else."""
        path = self._path(address)
        data = await asyncio.to_thread(_read_beneath, *path, self._limits.max_file_bytes)
        title, text = await _text(path[1][-1], data)
        return Document(address, title, "", text, len(data) >= self._limits.max_file_bytes)

    def _path(self, address: str) -> tuple[Path, list[str]]:
        name, _, rest = unquote(address.removeprefix(LOCAL)).partition("/")
        parts = rest.split("/")
        if name not in self._folders or any(part.startswith(".") or part == "" or "\0" in part for part in parts):
            raise _not_there(address)
        return self._folders[name], parts

    async def _keep_scanning(self) -> None:
        while True:
            try:
                await self.scan()
            except (sqlite3.Error, OSError) as error:  # a full disk passes; what is indexed stays
                LOG.warning("index not brought up to date", extra={"reason": str(error)[:200]})
            self._scanned.set()
            await asyncio.sleep(self._limits.scan_seconds)

    async def scan(self) -> None:
        """Indexes what is new or changed, and forgets what is gone."""
        found = await asyncio.to_thread(lambda: list(self._walk()))
        async with self._use:
            known = await asyncio.to_thread(self._known)
            await asyncio.to_thread(self._forget, known.keys() - {file.address for file in found})
        for file in found:
            if known.get(file.address) != file.stamp:
                await self._index(file)

    async def _index(self, file: Found) -> None:
        """A file that cannot be read as text is known as one without words, so that it is not read again."""
        try:
            data = await asyncio.to_thread(_read, file.path, self._limits.max_file_bytes)
            title, text = await _text(file.path.name, data)
        except (OSError, BadInput):
            title, text = "", ""
        async with self._use:
            await asyncio.to_thread(self._keep, file, title or file.path.name, text)

    def _walk(self) -> Iterator[Found]:
        """Regular, visible files of all folders, at most ``max_files``; sorted, so that the same ones stay in."""
        room = self._limits.max_files
        for name, root in self._folders.items():
            for folder, inside, files in os.walk(root):
                inside[:] = sorted(one for one in inside if not one.startswith("."))
                for file in sorted(files):
                    found = _found(name, root, Path(folder) / file)
                    if found is None or room == 0:
                        continue
                    room -= 1
                    yield found

    def _known(self) -> dict[str, str]:
        return dict(self._connection.execute("SELECT address, stamp FROM files").fetchall())

    def _forget(self, addresses: set[str]) -> None:
        with self._connection:
            for address in addresses:
                self._remove(address)

    def _remove(self, address: str) -> None:
        row = self._connection.execute("SELECT id FROM files WHERE address = ?", (address,)).fetchone()
        if row is not None:
            first = row[0] * FILE_PASSAGES
            self._connection.execute(
                "DELETE FROM passages WHERE rowid BETWEEN ? AND ?", (first, first + FILE_PASSAGES - 1)
            )
            self._connection.execute("DELETE FROM files WHERE id = ?", (row[0],))

    def _keep(self, file: Found, title: str, text: str) -> None:
        with self._connection:
            self._remove(file.address)
            (used,) = self._connection.execute("SELECT coalesce(sum(bytes), 0) FROM files").fetchone()
            if used + len(text.encode()) > self._limits.max_bytes:
                text = ""
            cursor = self._connection.execute(
                "INSERT INTO files (address, stamp, title, bytes) VALUES (?, ?, ?, ?)",
                (file.address, file.stamp, title, len(text.encode())),
            )
            first = (cursor.lastrowid or 0) * FILE_PASSAGES
            rows = (
                (first + number, spaced(title), spaced(body), start)
                for number, (start, body) in zip(range(FILE_PASSAGES), passages(text), strict=False)
            )
            self._connection.executemany("INSERT INTO passages (rowid, title, body, start) VALUES (?, ?, ?, ?)", rows)

    def _search(self, expression: str, limit: int) -> list[Hit]:
        rows = self._connection.execute(SEARCH, (expression, limit * CANDIDATES)).fetchall()
        best: dict[int, Hit] = {}
        for row, start, snippet in rows:
            if row // FILE_PASSAGES not in best and len(best) < limit:
                best[row // FILE_PASSAGES] = self._hit(row // FILE_PASSAGES, start, snippet)
        return list(best.values())

    def _hit(self, file: int, start: int, snippet: str) -> Hit:
        address, title = self._connection.execute("SELECT address, title FROM files WHERE id = ?", (file,)).fetchone()
        return Hit(title=title, url=address, snippet=" ".join(unspaced(snippet).split()), start=start)


async def _text(name: str, data: bytes) -> tuple[str, str]:
    """(title, text). Raises BadInput for what is no text."""
    if name.lower().endswith(HTML_NAMES):
        return await read_page(data, None, "")
    text = plain(data, None)
    heading = _HEADING.search(text[:2000])
    return (heading.group(1).strip() if heading else ""), text


def _found(name: str, root: Path, path: Path) -> Found | None:
    if path.name.startswith("."):
        return None
    with contextlib.suppress(OSError):
        info = path.lstat()
        if stat.S_ISREG(info.st_mode):
            address = f"{LOCAL}{quote(name)}/{quote(path.relative_to(root).as_posix())}"
            return Found(address, path, f"{info.st_mtime_ns}-{info.st_size}")
    return None


def _read(path: Path, max_bytes: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(max_bytes)


def _read_beneath(root: Path, parts: list[str], max_bytes: int) -> bytes:
    """Step by step, along no link, so that the path cannot lead out even while the folder changes."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            inner = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _not_there("/".join(parts))
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return file.read(max_bytes)
    except OSError:
        raise _not_there("/".join(parts)) from None
    finally:
        os.close(descriptor)


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise BadInput("search.config", f"{folder} is no folder")
        if folder.resolve().name in named:
            raise BadInput("search.config", f"two indexed folders are called {folder.resolve().name}")
        named[folder.resolve().name] = folder.resolve()
    return named


def _not_there(address: str) -> NotFound:
    return NotFound("search.not_found", f"there is no {address[:200]} in the indexed folders", param="url")
