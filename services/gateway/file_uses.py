"""Which files have a content, and whether anybody else may have it: equal bytes are one blob, whoever stored them.

Input: files as they come and go. Output: whether the bytes may go with the last file. They may not when they were there
before it, or were stored again since: a run or a chat, maybe of another tenant, counts on them, and the collector
removes them in time. It must not know names or tenants.
"""

import msgspec

from schemas import codec
from schemas.blobs import BlobRef
from shared.blobs.store import BlobStore


class FileUse(msgspec.Struct, frozen=True, kw_only=True):
    """As stored (JSON), one a file."""

    shared: bool = False
    """The bytes were there before, and not from a file."""
    written_unix_seconds: float = 0.0
    """When the blob was written for a file; another time now: somebody else wrote it."""


class FileUses:
    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def add(self, file_id: str, blob: BlobRef, *, was_there: bool) -> None:
        """After the upload; ``was_there``: before it."""
        others = await self._others(blob, file_id)
        use = FileUse(
            shared=any(other.shared for other in others.values()) or (was_there and not others),
            written_unix_seconds=await self._blobs.written(blob) or 0.0,
        )
        await self._put(file_id, blob, use)

    async def remove(self, file_id: str, blob: BlobRef) -> bool:
        """Whether the bytes may go too."""
        data = await self._blobs.get_record(_kind(blob), file_id)
        use = codec.decode_json(data or b"{}", FileUse)
        await self._blobs.delete_record(_kind(blob), file_id)
        others = await self._others(blob, file_id)
        if others:  # what this file knows of the blob, its next one has to know
            heir, known = next(iter(others.items()))
            written = max(use.written_unix_seconds, known.written_unix_seconds)
            await self._put(heir, blob, FileUse(shared=use.shared or known.shared, written_unix_seconds=written))
            return False
        return not use.shared and use.written_unix_seconds == await self._blobs.written(blob)

    async def _others(self, blob: BlobRef, file_id: str) -> dict[str, FileUse]:
        """Sorted by file id."""
        found: dict[str, FileUse] = {}
        for name in await self._blobs.list_records(_kind(blob)):
            data = await self._blobs.get_record(_kind(blob), name) if name != file_id else None
            if data is not None:
                found[name] = codec.decode_json(data or b"{}", FileUse)
        return found

    async def _put(self, file_id: str, blob: BlobRef, use: FileUse) -> None:
        await self._blobs.put_record(_kind(blob), file_id, codec.encode_json(use))


def _kind(blob: BlobRef) -> str:
    return f"file-uses.{blob.key.rpartition('/')[2]}"
