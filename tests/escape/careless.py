"""What the guard is compared with: clients that judge nothing, or judge one thing and use another."""

import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from services.tools.address import Address, Destinations, is_public
from services.tools.http import Web, WebLimits
from shared.errors import BadInput

PUBLIC_ONLY = Destinations()
ANYWHERE = Destinations(networks=(ip_network("0.0.0.0/0"), ip_network("::/0")), ports=frozenset(range(1, 65536)))

Resolve = Callable[[str], Awaitable[Sequence[Address]]]


def addresses(texts: Sequence[str]) -> list[Address]:
    return [ip_address(text) for text in texts]


async def get(how: str, url: str, resolve: Resolve, limits: WebLimits) -> None:
    if how == "open":
        await Web(ANYWHERE, limits, resolve).get(url)
        return
    if how == "twice" and not all(is_public(address) for address in await resolve(urlsplit(url).hostname or "")):
        raise BadInput("careless.private", "judged once")
    if how == "proxy":
        os.environ["http_proxy"] = "http://127.0.0.1:3128"
    connector = aiohttp.TCPConnector(resolver=_Resolver(resolve), use_dns_cache=False)
    async with (
        aiohttp.ClientSession(connector=connector, trust_env=how == "proxy") as session,
        session.get(url) as answer,
    ):
        await answer.read()


class _Resolver(AbstractResolver):
    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [_result(host, port, address) for address in await self._resolve(host)]

    async def close(self) -> None:
        return None


def _result(host: str, port: int, address: Address) -> ResolveResult:
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    return ResolveResult(hostname=host, host=str(address), port=port, family=family, proto=0, flags=0)


def read(address: str, folder: Path) -> str:
    """A file as its address says."""
    if address.startswith("file://"):
        return Path(urlsplit(address).path).read_text()
    rest = unquote(address.removeprefix("local:"))
    return Path(rest).read_text() if rest.startswith("/") else (folder.parent / rest).read_text()
