"""Uploaded files: a record per file and tenant that points at a blob. Files are visible only to their tenant, whichever
of its keys uploaded them, since each tenant's records are of a kind of their own.

Input: bytes in pieces and a name. Output: ``FileObject`` as OpenAI spells it. It must not know HTTP.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple
from urllib.parse import unquote

import msgspec

from schemas import codec
from schemas.blobs import BlobRef
from schemas.media import MediaKind
from schemas.request import Principal
from services.gateway.file_uses import FileUses
from shared.blobs.store import BlobStore
from shared.clock import Clock
from shared.errors import BadInput, NotFound

Purpose = Literal["file-extract", "image", "video", "batch", "user_data", "vision"]
PURPOSES: tuple[Purpose, ...] = ("file-extract", "image", "video", "batch", "user_data", "vision")

NAME_MAX_CHARACTERS = 255
LIST_MAX_FILES = 10_000

_VIDEO_ENDINGS = (
    *("mp4", "m4v", "mov", "avi", "webm", "mkv", "mpeg", "mpg"),
    *("flv", "wmv", "3gp", "3gpp"),
)
_IMAGE_ENDINGS = ("png", "jpg", "jpeg", "webp", "gif")


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """As stored (JSON)."""

    id: str
    filename: str
    purpose: Purpose
    created_unix_seconds: int
    content_type: str
    blob: BlobRef


class Stored(NamedTuple):
    blob: BlobRef
    was_there: bool
    """Somebody had stored the same bytes before."""


class FileObject(msgspec.Struct, frozen=True, kw_only=True):
    """As answered."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: Purpose
    status: str = "processed"


class FileList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: tuple[FileObject, ...]
    has_more: bool = False


class FileDeleted(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    object: str = "file"
    deleted: bool = True


Pieces = Callable[[], Awaitable[bytes | bytearray]]
"""Gives the next bytes of an upload; ``b""`` ends them."""


class FileLibrary:
    """Methods that take an id raise NotFound(``file.not_found``)."""

    def __init__(self, blobs: BlobStore, clock: Clock, max_bytes: int) -> None:
        self._blobs = blobs
        self._uses = FileUses(blobs)
        self._clock = clock
        self._max_bytes = max_bytes

    async def store(self, filename: str, read: Pieces) -> Stored:
        """The bytes that ``read`` gives, never whole in memory. Raises BadInput(``blob.too_large``,
        ``file.empty``) naming the file."""
        async with self._blobs.spool(self._max_bytes) as spool:
            while piece := await read():
                await spool.write(piece)
            if spool.size_bytes == 0:
                raise BadInput("file.empty", f"{filename} is empty", param="file")
        return Stored(spool.ref, spool.was_there)

    async def add(
        self, principal: Principal, filename: str, purpose: Purpose, content_type: str, stored: Stored
    ) -> FileObject:
        record = FileRecord(
            id=f"file-{secrets.token_hex(12)}",
            filename=filename,
            purpose=purpose,
            created_unix_seconds=int(self._clock.unix_seconds()),
            content_type=content_type,
            blob=stored.blob,
        )
        await self._uses.add(record.id, stored.blob, was_there=stored.was_there)
        await self._blobs.put_record(_kind(principal), record.id, codec.encode_json(record))
        return file_object(record)

    async def get(self, principal: Principal, file_id: str) -> FileRecord:
        data = await self._blobs.get_record(_kind(principal), file_id) if is_file_id(file_id) else None
        if data is None:
            raise NotFound("file.not_found", f"no file {file_id[:100]!r}", param="file_id")
        return codec.decode_json(data, FileRecord)

    async def list(self, principal: Principal) -> list[FileRecord]:
        """Newest first."""
        ids = (await self._blobs.list_records(_kind(principal)))[:LIST_MAX_FILES]
        found = [await self._blobs.get_record(_kind(principal), file_id) for file_id in ids]
        records = [codec.decode_json(data, FileRecord) for data in found if data is not None]
        return sorted(records, key=lambda record: (-record.created_unix_seconds, record.id))

    async def delete(self, principal: Principal, file_id: str) -> None:
        """The record goes at once; the bytes too, unless something else may have the same content."""
        record = await self.get(principal, file_id)
        await self._blobs.delete_record(_kind(principal), file_id)
        if await self._uses.remove(file_id, record.blob):
            await self._blobs.delete(record.blob)


def is_file_id(text: str) -> bool:
    head, _, tail = text.partition("-")
    return head == "file" and tail.isascii() and tail.isalnum() and len(tail) <= 64


def file_object(record: FileRecord) -> FileObject:
    return FileObject(
        id=record.id,
        bytes=record.blob.size_bytes,
        created_at=record.created_unix_seconds,
        filename=record.filename,
        purpose=record.purpose,
    )


def clean_name(filename: str | None) -> str:
    """The last part of a client's file name, printable and bounded. Form encoders percent-encode what is not ASCII."""
    last = unquote(filename or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(filter(str.isprintable, last)).strip()[-NAME_MAX_CHARACTERS:] or "upload"


def media_kind(record: FileRecord) -> MediaKind | None:
    """What a file is by its purpose, content type or ending; None when none of them says."""
    if record.purpose in ("image", "video"):
        return record.purpose
    main_type = record.content_type.partition("/")[0]
    if main_type in ("image", "video"):
        return "image" if main_type == "image" else "video"
    ending = record.filename.rpartition(".")[2].lower()
    return "image" if ending in _IMAGE_ENDINGS else "video" if ending in _VIDEO_ENDINGS else None


def _kind(principal: Principal) -> str:
    return f"files.{principal.tenant}"
