"""HTTP handlers of ``/v1/files``: uploads are streamed to the blob store, contents streamed from it.

Input: multipart forms and file ids. Output: OpenAI's file objects. At no time is a file whole in memory.
"""

import asyncio
from dataclasses import dataclass

import msgspec
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from schemas.request import Principal
from schemas.telemetry import SPAN_UPLOAD
from services.gateway.config import GatewayConfig
from services.gateway.error_body import json_response
from services.gateway.file_body import FileBodies
from services.gateway.files import (
    PURPOSES,
    FileDeleted,
    FileLibrary,
    FileList,
    Purpose,
    Stored,
    clean_name,
    file_object,
)
from services.gateway.identity import PRINCIPAL, span_attributes
from services.gateway.limits import Budget
from shared.errors import BadInput
from shared.telemetry.tracing import Telemetry

PIECE_BYTES = 256 * 1024
FIELD_MAX_BYTES = 4096
FORM_OVERHEAD_BYTES = 64 * 1024
FORM_MAX_PARTS = 16


@dataclass
class Form:
    """What an upload has said so far; its fields come in any order."""

    purpose: Purpose | None = None
    filename: str = ""
    content_type: str = ""
    stored: Stored | None = None


class FileHandlers:
    def __init__(self, config: GatewayConfig, bodies: FileBodies, files: FileLibrary, telemetry: Telemetry) -> None:
        self._config = config
        self._bodies = bodies
        self._files = files
        self._telemetry = telemetry
        self._uploads = Budget("uploads", config.max_uploads)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/files", self.upload),
            web.get("/v1/files", self.list),
            web.get("/v1/files/{id}", self.get),
            web.get("/v1/files/{id}/content", self.content),
            web.delete("/v1/files/{id}", self.delete),
        ]

    async def upload(self, request: web.Request) -> web.Response:
        """``POST /v1/files``: form fields ``purpose`` and ``file``."""
        if request.content_type != "multipart/form-data":
            raise BadInput("invalid_content_type", "send multipart/form-data with the fields purpose and file")
        if (request.content_length or 0) > self._config.file_max_bytes + FORM_OVERHEAD_BYTES:
            raise _too_large(self._config.file_max_bytes, "the file")
        attributes = span_attributes(request)
        parent = request.headers.get("traceparent", "")
        with (
            self._uploads.take(),
            self._telemetry.span(SPAN_UPLOAD, parent=parent, kind="server", attributes=attributes),
        ):
            form = await self._read_form(request)
            if form.purpose is None:
                raise _missing("purpose")
            if form.stored is None:
                raise _missing("file")
            added = await self._files.add(
                _principal(request), form.filename, form.purpose, form.content_type, form.stored
            )
            return json_response(added)

    async def _read_form(self, request: web.Request) -> Form:
        form = Form()
        try:
            async with asyncio.timeout(self._config.upload_timeout_seconds):
                reader = await request.multipart()
                for _ in range(FORM_MAX_PARTS):
                    part = await reader.next()
                    if part is None:
                        return form
                    await self._read_part(part, form)
        except TimeoutError as error:
            raise BadInput("upload_timeout", "the file did not arrive in time", status=408) from error
        except (ValueError, AssertionError, HttpProcessingError) as error:
            raise BadInput("malformed_form", "the body is not a valid multipart form") from error
        raise BadInput("malformed_form", f"a form has at most {FORM_MAX_PARTS} fields")

    async def _read_part(self, part: object, form: Form) -> None:
        if not isinstance(part, BodyPartReader):
            raise BadInput("malformed_form", "a form must not hold another multipart body")
        if part.name == "file":
            if form.stored is not None:
                raise BadInput("malformed_form", "one file per upload", param="file")
            form.filename = clean_name(part.filename)
            form.content_type = part.headers.get("Content-Type", "")[:100]
            form.stored = await self._store(part, form.filename)
        elif part.name == "purpose":
            form.purpose = _purpose(await _text(part))
        else:
            await _text(part)

    async def _store(self, part: BodyPartReader, filename: str) -> Stored:
        async def read() -> bytes | bytearray:
            return await part.read_chunk(PIECE_BYTES)

        try:
            return await self._files.store(filename, read)
        except BadInput as error:
            raise _too_large(self._config.file_max_bytes, filename) if error.status == 413 else error from error

    async def list(self, request: web.Request) -> web.Response:
        """``GET /v1/files``, optionally ``?purpose=``."""
        wanted = request.query.get("purpose")
        records = await self._files.list(_principal(request))
        data = tuple(file_object(record) for record in records if wanted in (None, record.purpose))
        return json_response(FileList(data=data))

    async def get(self, request: web.Request) -> web.Response:
        return json_response(file_object(await self._files.get(_principal(request), request.match_info["id"])))

    async def delete(self, request: web.Request) -> web.Response:
        file_id = request.match_info["id"]
        await self._files.delete(_principal(request), file_id)
        return json_response(FileDeleted(id=file_id))

    async def content(self, request: web.Request) -> web.StreamResponse:
        """``GET /v1/files/{id}/content``."""
        record = await self._files.get(_principal(request), request.match_info["id"])
        return await self._bodies.answer(request, record.blob)


async def _text(part: BodyPartReader) -> str:
    """A small form field. Raises BadInput when it is not small."""
    data = bytearray()
    while piece := await part.read_chunk(FIELD_MAX_BYTES):
        data += piece
        if len(data) > FIELD_MAX_BYTES:
            raise BadInput("malformed_form", f"{part.name}: longer than {FIELD_MAX_BYTES} bytes", param=part.name)
    return data.decode(errors="replace").strip()


def _purpose(text: str) -> Purpose:
    try:
        return msgspec.convert(text, Purpose)
    except msgspec.ValidationError as error:
        message = f"purpose must be one of {', '.join(PURPOSES)}"
        raise BadInput("invalid_value", message, param="purpose") from error


def _missing(field: str) -> BadInput:
    return BadInput("missing_field", f"the form field {field} is required", param=field)


def _too_large(limit: int, name: str) -> BadInput:
    return BadInput("blob.too_large", f"{name} is larger than the limit of {limit} bytes", param="file", status=413)


def _principal(request: web.Request) -> Principal:
    return request[PRINCIPAL]
