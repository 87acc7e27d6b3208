"""The HTTP edge: one endpoint, its pooled connections, and its errors as ours.

Input: request bodies. Output: the JSON of each event of a stream, or of a whole answer; every failure is a ``Fault``.
The only file that knows aiohttp. It must not know what the JSON means.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from services.upstream.config import UpstreamConfig
from services.upstream.faults import Fault, broken, refusal, retry_after_seconds
from services.upstream.key import Key
from services.upstream.stream import EventParser, MalformedStreamError

DONE = b"[DONE]"
ERROR_MAX_BYTES = 64 * 1024
MODELS_SECONDS = 10.0
LINGER_SECONDS = 0.25
"""For the end of a body behind its last event: a connection that was read to its end can be used again."""


class ListedModel(msgspec.Struct, frozen=True):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None
    context_length: int | None = None


class _Models(msgspec.Struct):
    data: list[ListedModel]


class Endpoint:
    def __init__(self, config: UpstreamConfig, key: Key, session: aiohttp.ClientSession) -> None:
        self._config = config
        self._session = session
        self._chats = URL(f"{config.url}/chat/completions")
        self.key = key

    @classmethod
    @asynccontextmanager
    async def open(cls, config: UpstreamConfig) -> AsyncIterator["Endpoint"]:
        """Connections stay open between requests; as many as there are requests, which admission bounds."""
        timeout = aiohttp.ClientTimeout(total=config.total_seconds, sock_connect=config.connect_seconds)
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            yield cls(config, Key(config.key_file), session)

    async def ask(self, body: bytes, *, stream: bool) -> AsyncGenerator[list[bytes], None]:
        """JSON of the events of a stream, as many at once as have arrived; or of the whole answer where the endpoint
        does not stream. Raises Fault."""
        loop = asyncio.get_running_loop()
        first_at = loop.time() + (self._config.first_token_seconds if stream else self._config.total_seconds)
        try:
            response = await self._post(body, first_at, stream)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._fault(error) from None
        try:
            if response.status >= 300:
                raise await self._refusal(response)
            if _is_whole(response, stream):
                yield [await self._whole(response, self._config.answer_max_bytes)]
            else:
                async for events in self._events(response, first_at):
                    yield events
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._fault(error) from None
        finally:
            response.close()

    async def models(self) -> list[ListedModel]:
        """What the endpoint lists. Raises Fault."""
        try:
            async with (
                asyncio.timeout(MODELS_SECONDS),
                self._session.get(
                    f"{self._config.url}/models", headers=self._headers(), allow_redirects=False
                ) as response,
            ):
                if response.status >= 300:
                    raise await self._refusal(response)
                data = await self._whole(response, self._config.answer_max_bytes)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._fault(error) from None
        try:
            return msgspec.json.decode(data, type=_Models).data
        except msgspec.MsgspecError:
            raise broken("malformed", "the model's endpoint sent no list of models") from None

    async def _post(self, body: bytes, first_at: float, stream: bool) -> aiohttp.ClientResponse:
        accept = "text/event-stream" if stream else "application/json"
        headers = self._headers() | {"Content-Type": "application/json", "Accept": accept}
        async with asyncio.timeout_at(first_at):
            return await self._session.post(self._chats, data=body, headers=headers, allow_redirects=False)

    def _headers(self) -> dict[str, str]:
        # Compression would hold back events until a block is full.
        return {**self.key.headers(), "Accept-Encoding": "identity"}

    async def _events(self, response: aiohttp.ClientResponse, first_at: float) -> AsyncGenerator[list[bytes], None]:
        """Only whole events are a sign of life: an endpoint that drips bytes is as good as silent."""
        loop = asyncio.get_running_loop()
        parser, limit_at, received, done = EventParser(), first_at, 0, False
        while not done and (piece := await self._read(response, limit_at)):
            received += len(piece)
            self._check_size(received)
            events, done, fault = _parsed(parser.feed(piece))
            if events:
                yield events
                limit_at = loop.time() + self._config.idle_seconds
            if fault is not None:
                raise fault
        if done:
            await self._linger(response)
            return
        events, _, fault = _parsed(parser.close())
        yield events
        if fault is not None:
            raise fault

    async def _read(self, response: aiohttp.ClientResponse, limit_at: float) -> bytes:
        async with asyncio.timeout_at(limit_at):
            return await response.content.readany()

    async def _linger(self, response: aiohttp.ClientResponse) -> None:
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                await response.content.readany()
        except (TimeoutError, aiohttp.ClientError):
            return  # the answer is complete; only the connection is lost

    async def _whole(self, response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
        loop = asyncio.get_running_loop()
        body = bytearray()
        while piece := await self._read(response, loop.time() + self._config.read_seconds):
            body += piece
            self._check_size(len(body), max_bytes)
        return bytes(body)

    def _check_size(self, size: int, max_bytes: int | None = None) -> None:
        limit = max_bytes or self._config.answer_max_bytes
        if size > limit:
            raise broken("too_large", f"the endpoint's answer is larger than {limit} bytes", transient=False)

    async def _refusal(self, response: aiohttp.ClientResponse) -> Fault:
        try:
            body = await self._whole(response, ERROR_MAX_BYTES)
        except (aiohttp.ClientError, OSError, Fault):
            body = b""  # the status alone says enough
        wait = retry_after_seconds(response.headers.get("Retry-After"), datetime.now(UTC))
        fault = refusal(response.status, wait, body, self.key.redact)
        if response.status == 401 and self.key.reload():
            fault.transient = True
        return fault

    def _fault(self, error: Exception) -> Fault:
        """aiohttp's errors in our words; its own texts may hold addresses and header values, and stay out."""
        kind = type(error).__name__
        for foreign, code, message, transient in _TRANSLATIONS:
            if isinstance(error, foreign):
                return broken(code, message, transient=transient, detail=kind)
        return broken("failed", "the exchange with the model's endpoint failed", detail=kind)


_TRANSLATIONS: tuple[tuple[Any, str, str, bool], ...] = (
    (
        aiohttp.ClientConnectorCertificateError,
        "certificate",
        "the certificate of the model's endpoint is not valid",
        False,
    ),
    (aiohttp.ClientSSLError, "tls", "no encrypted connection to the model's endpoint could be made", False),
    (aiohttp.InvalidURL, "url", "the url of the model's endpoint cannot be used", False),
    (aiohttp.ConnectionTimeoutError, "unreachable", "the model's endpoint could not be reached in time", True),
    (aiohttp.ClientConnectorError, "unreachable", "the model's endpoint cannot be reached", True),
    (TimeoutError, "timeout", "the model's endpoint was silent for too long", True),
    (aiohttp.ClientPayloadError, "died", "the endpoint's answer broke off", True),
    (aiohttp.ServerDisconnectedError, "died", "the model's endpoint closed the connection", True),
    (OSError, "died", "the connection to the model's endpoint broke", True),
)


def _parsed(found: Iterator[bytes]) -> tuple[list[bytes], bool, Fault | None]:
    """The events, whether the stream says that it is done, and what is wrong behind the last event."""
    events: list[bytes] = []
    try:
        for event in found:
            if event == DONE:
                return events, True, None
            events.append(event)
    except MalformedStreamError as error:
        return events, False, broken("malformed", f"the model's endpoint sent a damaged stream: {error}")
    return events, False, None


def _is_whole(response: aiohttp.ClientResponse, stream: bool) -> bool:
    """Some endpoints ignore ``stream`` and send one JSON document; some label their streams wrongly."""
    if response.content_type == "text/event-stream":
        return False
    return not stream or response.content_type == "application/json"
