"""The HTTP edge of the tools: one GET, bounded in everything, to checked addresses only.

Input: a URL. Output: the answer behind all redirects, its body cut at a limit; everything else is one of our errors.
Names are resolved here and judged, and the socket goes to a judged address: nobody resolves again in between. Each
redirect is judged anew. No cookies, no credentials, no proxy of the environment. Must not know what a body means.
"""

import asyncio
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from services.tools.address import Address, Destinations, Host, is_public, parse_host
from services.tools.url import parse_url
from shared.errors import BadInput, DeadlineExceeded, MoontideError, Unavailable

READ_BYTES = 64 * 1024
REDIRECTS = frozenset((301, 302, 303, 307, 308))
AGENT = "moontide-fetch (+https://github.com/moontide)"

Resolve = Callable[[str], Awaitable[Sequence[Address]]]
"""All addresses of a name, best first. Raises OSError."""


@dataclass(frozen=True)
class WebLimits:
    max_bytes: int = 5 * 1024 * 1024
    """Of a body, before and after decompression: what is behind is not read."""
    total_seconds: float = 30.0
    """From the first look at the URL to the last byte, redirects included."""
    idle_seconds: float = 10.0
    """Between two reads, and for a connection."""
    redirects: int = 5
    resolve_seconds: float = 5.0


@dataclass(frozen=True)
class WebAnswer:
    url: str
    """Where the redirects ended."""
    status: int
    reason: str
    media_type: str
    """Lower case, without parameters; empty when the server does not say."""
    charset: str | None
    body: bytes
    truncated: bool
    size_bytes: int | None
    """As the server announced it."""


BodyCheck = Callable[["WebAnswer"], None]
"""Sees the answer before its body is read; raises to refuse it."""


@dataclass(frozen=True)
class Web:
    destinations: Destinations
    limits: WebLimits = WebLimits()
    resolve: Resolve = field(default_factory=lambda: system_resolve)

    async def get(
        self, url: str, *, headers: Mapping[str, str] | None = None, check: BodyCheck | None = None
    ) -> WebAnswer:
        """Raises BadInput (``fetch.bad_url``, ``.forbidden``, ``.unknown_host``, ``.redirects``), Unavailable
        (``fetch.unreachable``), DeadlineExceeded (``fetch.timeout``), or what ``check`` raises. ``headers`` go to the
        first host only."""
        try:
            async with asyncio.timeout(self.limits.total_seconds):
                return await self._follow(parse_url(url), dict(headers or {}), check)
        except TimeoutError:
            text = f"no whole answer within {self.limits.total_seconds:g} seconds"
            raise DeadlineExceeded("fetch.timeout", text, param="url") from None

    async def _follow(self, url: URL, headers: dict[str, str], check: BodyCheck | None) -> WebAnswer:
        for _ in range(self.limits.redirects + 1):
            async with self._ask(url, headers) as response:
                if (target := _redirect(response)) is None:
                    return await self._read(response, check)
            if target.origin() != url.origin():
                headers = {}
            url = target
        raise BadInput("fetch.redirects", f"more than {self.limits.redirects} redirects", param="url")

    @asynccontextmanager
    async def _ask(self, url: URL, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """A connection of its own each time: none is found again under a name that has moved since."""
        addresses = await self._judged(url)
        connector = aiohttp.TCPConnector(
            resolver=_Judged(addresses), socket_factory=_guard(addresses), use_dns_cache=False, force_close=True
        )
        timeout = aiohttp.ClientTimeout(sock_connect=self.limits.idle_seconds, sock_read=self.limits.idle_seconds)
        session = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": AGENT, "Accept-Encoding": "gzip", "Accept-Language": "en, *;q=0.5"},
        )
        async with session:
            try:
                async with session.get(url, headers=dict(headers), allow_redirects=False) as response:
                    yield response
            except TimeoutError:
                raise DeadlineExceeded("fetch.timeout", f"{url.host} fell silent", param="url") from None
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise _unreachable(url, error) from None

    async def _judged(self, url: URL) -> list[Address]:
        """The addresses of the URL's host that may be connected to. Raises BadInput when there are none."""
        host, port = parse_host(url.raw_host or ""), url.port or 0
        found = await self._addresses(host)
        allowed = [address for address in found if self.destinations.allows(host, address, port)]
        if not allowed:
            raise BadInput("fetch.forbidden", _forbidden(host, found, port), param="url")
        return allowed

    async def _addresses(self, host: Host) -> Sequence[Address]:
        if not isinstance(host, str):
            return [host]
        try:
            async with asyncio.timeout(self.limits.resolve_seconds):
                found = await self.resolve(host)
        except TimeoutError:
            raise Unavailable("fetch.unreachable", f"the name {host} was not resolved in time", status=502) from None
        except (OSError, UnicodeError):
            found = []
        if not found:
            raise BadInput("fetch.unknown_host", f"there is no host {host}", param="url")
        return found

    async def _read(self, response: aiohttp.ClientResponse, check: BodyCheck | None) -> WebAnswer:
        head = WebAnswer(
            url=str(response.url),
            status=response.status,
            reason=(response.reason or "")[:100],
            media_type=response.headers.get("Content-Type", "").partition(";")[0].strip().lower()[:100],
            charset=response.charset,
            body=b"",
            truncated=False,
            size_bytes=response.content_length,
        )
        if check is not None:
            check(head)
        body, truncated = await self._body(response)
        return WebAnswer(**{**vars(head), "body": body, "truncated": truncated})

    async def _body(self, response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
        """Cut at the limit, which holds for what arrives and for what it unpacks to."""
        unpack = _unpacker(response.headers.get("Content-Encoding", ""))
        body, arrived = bytearray(), 0
        async for piece in response.content.iter_chunked(READ_BYTES):
            arrived += len(piece)
            body += unpack(piece, self.limits.max_bytes + 1 - len(body))
            if max(len(body), arrived) > self.limits.max_bytes:
                return bytes(body[: self.limits.max_bytes]), True
        return bytes(body), False


async def system_resolve(name: str) -> list[Address]:
    """As this machine resolves names."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [ip_address(entry[4][0]) for entry in found]


def _redirect(response: aiohttp.ClientResponse) -> URL | None:
    """Where the answer sends us; None when it is one. Raises BadInput for a place that no URL may name."""
    location = response.headers.get("Location", "")
    if response.status not in REDIRECTS or not location:
        return None
    try:
        target = urljoin(str(response.url), location.strip().replace(" ", "%20"))
    except ValueError:
        raise BadInput("fetch.bad_url", "redirects to something that is no URL", param="url") from None
    return parse_url(target)


class _Judged(AbstractResolver):
    """Answers what was judged, whatever is asked."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=_family(address),
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        return None


def _guard(addresses: Sequence[Address]) -> Callable[[aiohttp.AddrInfoType], socket.socket]:
    """The last look before a connection, whichever way its address came."""
    judged = frozenset(addresses)

    def make(info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, where = info
        if ip_address(where[0]) not in judged:
            raise OSError("this address was not judged")
        return socket.socket(family, kind, protocol)

    return make


def _forbidden(host: Host, found: Sequence[Address], port: int) -> str:
    if any(is_public(address) for address in found):
        return f"{host} may not be asked on port {port}"
    return f"{host} is not on the public internet"


def _family(address: Address) -> socket.AddressFamily:
    return socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6


def _unpacker(encoding: str) -> Callable[[bytes, int], bytes]:
    """From (a piece, how much is still wanted) to at most so much plain text. Raises BadInput for other encodings."""
    if encoding.strip().lower() in ("", "identity"):
        return lambda piece, room: piece[:room]
    if encoding.strip().lower() not in ("gzip", "x-gzip"):
        raise BadInput("fetch.unreadable", f"the content is encoded as {encoding[:40]!r}, which was not asked for")
    return _Gunzip().unpack


class _Gunzip:
    """Never unpacks more than is wanted, so that a small body cannot become a large one in memory."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    def unpack(self, piece: bytes, room: int) -> bytes:
        plain = bytearray()
        try:
            while piece and len(plain) < room:
                if self._member.eof:
                    self._member = zlib.decompressobj(wbits=31)
                plain += self._member.decompress(piece, room - len(plain))
                piece = self._member.unused_data if self._member.eof else b""
        except zlib.error:
            raise BadInput("fetch.unreadable", "the compressed content is damaged") from None
        return bytes(plain)


def _unreachable(url: URL, error: Exception) -> MoontideError:
    """Foreign texts name addresses and paths of this machine: only their kind is told."""
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (aiohttp.ClientConnectorCertificateError, "its certificate is not valid"),
        (aiohttp.ClientSSLError, "no secure connection is possible"),
        (aiohttp.ClientConnectorError, "the connection is refused or fails"),
        (aiohttp.ClientPayloadError, "the answer ends in its middle"),
        (aiohttp.ClientResponseError, "the answer is not HTTP"),
    )
    reason = next((text for kind, text in kinds if isinstance(error, kind)), "the connection broke")
    return Unavailable("fetch.unreachable", f"{url.host} cannot be read: {reason}", param="url", status=502)
