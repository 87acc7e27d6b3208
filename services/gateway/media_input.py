"""Media of a chat request as references: data URIs are decoded and stored, file ids looked up.

Input: a content part, its JSON path, who asks. Output: a ``MediaPart``. It must not know formats: whether the bytes
are an image is found out by whoever decodes them.
"""

import asyncio
import base64
import binascii

from schemas.blobs import BlobRef
from schemas.chat import MediaPart
from schemas.media import MediaKind
from schemas.request import Principal
from services.gateway.chat_body import FileContent, ImageContent, Url, VideoContent
from services.gateway.files import FileLibrary, FileRecord, is_file_id, media_kind
from shared.blobs.store import BlobStore
from shared.errors import BadInput, NotFound

MOONSHOT_SCHEME = "ms://"
_LARGE_CHARACTERS = 1 << 20

MediaContent = ImageContent | VideoContent | FileContent


class MediaInput:
    def __init__(self, blobs: BlobStore, files: FileLibrary) -> None:
        self._blobs = blobs
        self._files = files

    async def part(self, content: MediaContent, path: str, principal: Principal) -> MediaPart:
        """``path``: of the content part, like ``messages[0].content[1]``; names the input and prefixes the field in
        errors. Raises BadInput."""
        if isinstance(content, FileContent):
            return await self._file_part(content.file.file_id, path, principal)
        kind, url, field = _url(content, path)
        if url.startswith("data:"):
            return MediaPart(kind=kind, source=await self._store(url, field), name=path)
        if url.lower().startswith(("http://", "https://")):
            message = f"{field}: URLs are not fetched; send a data: URI or the id of an uploaded file"
            raise BadInput("unsupported_url", message, param=field)
        record = await self._record(url.removeprefix(MOONSHOT_SCHEME), field, principal)
        return MediaPart(kind=kind, source=record.blob, name=record.filename)

    async def _file_part(self, file_id: str, path: str, principal: Principal) -> MediaPart:
        field = f"{path}.file.file_id"
        record = await self._record(file_id, field, principal)
        kind = media_kind(record)
        if kind is None:
            message = f"{field}: {record.filename} is neither an image nor a video"
            raise BadInput("unsupported_file", message, param=field)
        return MediaPart(kind=kind, source=record.blob, name=record.filename)

    async def _record(self, file_id: str, field: str, principal: Principal) -> FileRecord:
        if not is_file_id(file_id):
            message = f"{field}: expected a data: URI, ms://FILE_ID or the id of an uploaded file"
            raise BadInput("invalid_url", message, param=field)
        try:
            return await self._files.get(principal, file_id)
        except NotFound as error:
            raise BadInput("file.not_found", f"{field}: no file {file_id!r}", param=field) from error

    async def _store(self, uri: str, field: str) -> BlobRef:
        header, comma, text = uri.partition(",")
        if not comma or not header.endswith(";base64"):
            raise BadInput("invalid_data_uri", f"{field}: expected data:TYPE;base64,DATA", param=field)
        try:
            data = await asyncio.to_thread(_decode, text) if len(text) > _LARGE_CHARACTERS else _decode(text)
        except (binascii.Error, ValueError) as error:
            raise BadInput("invalid_data_uri", f"{field}: the data is not valid base64", param=field) from error
        if not data:
            raise BadInput("empty_media", f"{field}: the data is empty", param=field)
        return await self._blobs.put(data)


def _url(content: ImageContent | VideoContent, path: str) -> tuple[MediaKind, str, str]:
    """Kind, URL and the JSON path of the URL."""
    kind: MediaKind = "image" if isinstance(content, ImageContent) else "video"
    value = content.image_url if isinstance(content, ImageContent) else content.video_url
    field = f"{path}.{kind}_url"
    return (kind, value.url, f"{field}.url") if isinstance(value, Url) else (kind, value, field)


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
