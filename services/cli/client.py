"""The HTTP client of a gateway: models, uploads, streamed chats, media, traces. The only file that knows aiohttp.

Input: plain values. Output: plain values, or an error of ``shared.errors``. Knows nothing of terminals and stacks.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from schemas import codec
from schemas.failure import Failure
from schemas.media import MediaManifest
from services.cli.answer import Chunk
from services.cli.config import client_key
from shared.errors import BadInput, MoontideError, Unavailable, from_failure

EVENT_MAX_BYTES = 16 * 1024 * 1024
ERROR_MAX_BYTES = 64 * 1024
QUIET_SECONDS = 60.0
"""How long a connection may stay silent; a gateway that waits says so every ten seconds."""

T = TypeVar("T")


class ErrorBody(msgspec.Struct, frozen=True):
    message: str = ""
    code: str | int | None = None
    param: str | None = None


class ErrorReply(msgspec.Struct, frozen=True):
    """OpenAI's error object: the body of a refusal, or an event in the middle of a stream."""

    error: ErrorBody | None = None


class Item(msgspec.Struct, frozen=True):
    id: str


class ReadyReply(msgspec.Struct, frozen=True):
    models: tuple[str, ...]


class ItemList(msgspec.Struct, frozen=True):
    data: tuple[Item, ...]


class GatewayClient:
    """One session with one gateway. A lost connection raises Unavailable: trying again can help."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> "AsyncIterator[GatewayClient]":
        """``url``: with or without ``/v1``. Asks with the key that the environment names. Nothing is connected yet."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=QUIET_SECONDS)
        key = client_key()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            yield cls(session, url.rstrip("/").removesuffix("/v1"))

    async def is_ready(self) -> bool:
        timeout = aiohttp.ClientTimeout(total=3.0)
        try:
            async with self._session.get(f"{self.url}/readyz", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def ready_models(self) -> list[str]:
        """What is served, as anybody may know, also without a key."""
        return list(decode(await self._get("/readyz"), ReadyReply).models)

    async def models(self) -> list[str]:
        """Ids in the gateway's order."""
        return [model.id for model in decode(await self._get("/v1/models"), ItemList).data]

    async def trace(self, trace_id: str) -> bytes:
        """A trace as JSON. Raises NotFound."""
        return await self._get(f"/v1/traces/{trace_id}")

    async def manifest(self, key: str) -> MediaManifest:
        """What the model saw of an input that was asked about. Raises NotFound."""
        return decode(await self._get(f"/v1/media/{key}"), MediaManifest)

    async def frame(self, key: str, position: int) -> bytes:
        """JPEG of a frame, by its position in the manifest. Raises NotFound."""
        return await self._get(f"/v1/media/{key}/frames/{position}.jpg")

    async def contact_sheet(self, key: str) -> bytes:
        """JPEG. Raises NotFound."""
        return await self._get(f"/v1/media/{key}/contact-sheet.jpg")

    async def upload(self, path: Path, purpose: str) -> str:
        """Streamed from the file; returns the file id. Raises BadInput when the file cannot be read."""
        try:
            file = path.open("rb")
        except OSError as error:
            raise BadInput("input.unreadable", f"{path}: {error.strerror}", param=str(path)) from error
        with file, converted(self.url):
            form = aiohttp.FormData()
            form.add_field("purpose", purpose)
            form.add_field("file", file, filename=path.name, content_type="application/octet-stream")
            async with self._session.post(f"{self.url}/v1/files", data=form) as response:
                await check(response)
                return decode(await response.read(), Item).id

    async def chat(self, request: dict[str, Any]) -> AsyncIterator[Chunk]:
        """The chunks of a streamed chat, until the server says that it is complete."""
        with converted(self.url):
            async with self._session.post(f"{self.url}/v1/chat/completions", json=request) as response:
                await check(response)
                async for data in event_data(response.content):
                    if data == b"[DONE]":
                        return
                    yield _chunk(data)
        raise Unavailable("gateway.lost", "the connection ended before the answer did")

    async def _get(self, path: str) -> bytes:
        timeout = aiohttp.ClientTimeout(total=30.0)
        with converted(self.url):
            async with self._session.get(f"{self.url}{path}", timeout=timeout) as response:
                await check(response)
                return await response.read()


@contextmanager
def converted(url: str) -> Iterator[None]:
    try:
        yield
    except aiohttp.InvalidURL as error:
        raise BadInput("gateway.url", f"{url} is not a URL", param="url") from error
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        reason = str(error) or type(error).__name__
        raise Unavailable("gateway.unreachable", f"no connection to {url}: {reason}") from error


async def check(response: aiohttp.ClientResponse) -> None:
    """Raises the error that a refusal stands for."""
    if response.status < 400:
        return
    body = await response.content.read(ERROR_MAX_BYTES)
    raise _error(body, response.status, response.headers.get("Retry-After"))


def _error(body: bytes, status: int, retry_after: str | None = None) -> MoontideError:
    try:
        error = codec.decode_json(body, ErrorReply).error
    except msgspec.MsgspecError:
        error = None
    error = error or ErrorBody(message=f"HTTP status {status}")
    seconds = float(retry_after) if retry_after is not None and retry_after.isdigit() else None
    return from_failure(
        Failure(
            code=str(error.code or "gateway.refused"),
            message=error.message,
            status=status,
            param=error.param,
            retry_after_seconds=seconds,
        )
    )


async def event_data(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The data of server-sent events; comments and other fields are skipped."""
    pending = bytearray()
    async for piece in stream.iter_any():
        pending += piece
        *lines, rest = pending.split(b"\n")
        pending = bytearray(rest)
        if len(pending) > EVENT_MAX_BYTES:
            raise Unavailable("gateway.event_too_long", f"an event is longer than {EVENT_MAX_BYTES} bytes")
        for line in lines:
            if line.startswith(b"data:"):
                yield bytes(line[5:].strip())


def _chunk(data: bytes) -> Chunk:
    """Raises the error that the server put into the stream."""
    error = decode(data, ErrorReply).error
    if error is not None:
        raise _error(data, 500)  # behind the first byte there is no status; the gateway has tried again itself
    return decode(data, Chunk)


def decode(data: bytes, kind: type[T]) -> T:
    try:
        return codec.decode_json(data, kind)
    except msgspec.MsgspecError as error:
        raise MoontideError("gateway.reply", f"not the reply of a gateway: {error}") from error
