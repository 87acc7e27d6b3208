"""Escapes of the web tools: ``python -m tests.escape.web`` tries each with the guard off and with it on, as JSON lines.

On an internet of this process's own (``internet``), the attacker's site stands at public addresses; a canary stands
everywhere else, at every address there is. An escape has happened when a connection reaches the canary, or when
a file outside came back. Off is what a careless client would do: no judgement, or one that resolves twice.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.tools.address import Address
from services.tools.fetch import Fetch
from services.tools.http import Web, WebLimits
from services.tools.index import LocalIndex
from shared.errors import MoontideError
from tests.escape import careless
from tests.escape.internet import enter
from tests.escape.site import PUBLIC, PUBLIC_V6, World
from tests.web.calls import call, text_of
from tests.web.site import drip, gzip_bomb, redirect, response

GUARDED = WebLimits(total_seconds=2.0, idle_seconds=1.5, max_bytes=1_000_000)
CARELESS = WebLimits(total_seconds=20.0, idle_seconds=20.0, max_bytes=16_000_000)
ABUSE_BYTES, ABUSE_SECONDS = 8_000_000, 4.0

Escape = Callable[[World, bool], Awaitable[bool]]
"""(world, guarded) → whether it happened. Raises what the guard says where it refuses."""


@dataclass(frozen=True)
class Case:
    name: str
    run: Escape


@dataclass
class Names:
    """DNS as the attacker serves it: each name's answers in turn, the last one again and again."""

    answers: dict[str, list[Sequence[str]]] = field(default_factory=dict)

    async def resolve(self, name: str) -> list[Address]:
        turns = self.answers.get(name, [[]])
        return careless.addresses(turns.pop(0) if len(turns) > 1 else turns[0])


def reaches(
    url: str,
    *,
    names: dict[str, list[Sequence[str]]] | None = None,
    routes: dict[str, bytes] | None = None,
    off: str = "open",
) -> Escape:
    """An escape that a URL makes. ``off``: ``open``, our client that may go anywhere; ``twice``, one that judges first
    and resolves again; ``plain``, aiohttp as it is."""

    async def run(world: World, guarded: bool) -> bool:
        world.routes = routes or {}
        dns = Names({name: list(turns) for name, turns in (names or {}).items()})
        if guarded:
            await Web(careless.PUBLIC_ONLY, GUARDED, dns.resolve).get(url)
        else:
            await careless.get(off, url, dns.resolve, CARELESS)
        return False  # reaching the canary counts, not returning

    return run


def site(path: str = "/") -> str:
    return f"http://{PUBLIC}{path}"


def to(*addresses: str) -> dict[str, list[Sequence[str]]]:
    return {"evil.example": [[address] for address in addresses]}


def redirecting(*locations: str) -> dict[str, bytes]:
    """A chain: ``/`` leads to ``/1``, and so on, the last location ends it."""
    paths = ["/", *(f"/{number}" for number in range(1, len(locations)))]
    return {path: redirect(location) for path, location in zip(paths, locations, strict=True)}


async def heavy(world: World, guarded: bool, body: object) -> bool:
    """Whether a body cost more memory or time than a page may."""
    world.routes = {"/": body}  # type: ignore[dict-item]
    begun = time.monotonic()
    web = Web(careless.PUBLIC_ONLY, GUARDED if guarded else CARELESS)
    try:
        answer = await web.get(site())
    except MoontideError:
        if time.monotonic() - begun > ABUSE_SECONDS:
            return True
        raise
    return len(answer.body) > ABUSE_BYTES or time.monotonic() - begun > ABUSE_SECONDS


def abuse(body: object) -> Escape:
    async def run(world: World, guarded: bool) -> bool:
        return await heavy(world, guarded, body)

    return run


def reads(address: str) -> Escape:
    """A file beside the indexed folder that comes back through ``fetch``."""

    async def run(world: World, guarded: bool) -> bool:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "notes").mkdir()
            (folder / "canary.txt").write_text("canary")
            (folder / "notes" / "link.txt").symlink_to(folder / "canary.txt")
            target = address.replace("FOLDER", str(folder))
            if not guarded:
                return "canary" in careless.read(target, folder / "notes")
            async with LocalIndex.open([folder / "notes"], folder / "index.db") as index:
                tool = Fetch(Web(careless.PUBLIC_ONLY, GUARDED), index.read)
                return "canary" in text_of(await tool.run(call(folder, url=target)))

    return run


OK = response(b"fine")
ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
CASES = [
    *(
        Case(f"direct {url}", reaches(f"http://{url}/"))
        for url in (
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "10.0.0.5",
            "172.16.3.4",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "198.18.0.1",
            "192.0.0.192",
            "[fd00:ec2::254]",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::169.254.169.254]",
            "[2002:7f00:1::1]",
            "[2001:0:1::1]",
            "[fec0::1]",
        )
    ),
    *(
        Case(f"spelled {host}", reaches(f"http://{host}/"))
        for host in (
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0x7f.1",
            "127.1",
            "１２７.0.0.1",
            "127。0。0。1",
            "127.0.0.1.",
            "2852039166",
            "017700000001",
        )
    ),
    Case("a name that means loopback", reaches("http://evil.example/", names=to("127.0.0.1"))),
    Case("a name with a dot at its end", reaches("http://evil.example./", names=to("10.0.0.5"))),
    Case(
        "an internationalised name", reaches("http://bücher.example/", names={"xn--bcher-kva.example": [["10.0.0.5"]]})
    ),
    Case("the metadata service by name", reaches("http://evil.example/", names=to("169.254.169.254"))),
    Case("a name that means a mapped address", reaches("http://evil.example/", names=to("::ffff:10.0.0.5"))),
    Case(
        "private beside public in one answer",
        reaches("http://evil.example/", names={"evil.example": [["10.0.0.5", PUBLIC]]}, routes={"/": OK}),
    ),
    Case(
        "an answer that changes before the connection",
        reaches("http://evil.example/", names=to(PUBLIC, "127.0.0.1"), routes={"/": OK}, off="twice"),
    ),
    Case(
        "an answer that changes between redirects",
        reaches("http://evil.example/", names=to(PUBLIC, "10.0.0.5"), routes=redirecting("http://evil.example/1")),
    ),
    Case(
        "an IPv6 answer that changes",
        reaches("http://evil.example/", names=to(PUBLIC_V6, "::1"), routes={"/": OK}, off="twice"),
    ),
    Case("a redirect to loopback", reaches(site(), routes=redirecting("http://127.0.0.1/"))),
    Case("a redirect to the metadata service", reaches(site(), routes=redirecting("http://169.254.169.254/latest/"))),
    Case(
        "a chain of redirects",
        reaches(site(), routes=redirecting("/1", site("/2"), f"http://[{PUBLIC_V6}]/3", "http://10.0.0.5/")),
    ),
    Case("a redirect to a number", reaches(site(), routes=redirecting("http://2130706433/"))),
    Case("a redirect without a scheme", reaches(site(), routes=redirecting("//127.0.0.1/"))),
    Case("a redirect to a name", reaches(site(), names=to("192.168.1.1"), routes=redirecting("http://evil.example/"))),
    Case(
        "a redirect that says see other", reaches(site(), routes={"/": redirect("http://127.0.0.1/", "303 See Other")})
    ),
    Case("a user that looks like a host", reaches(f"http://{PUBLIC}@127.0.0.1/", off="plain")),
    Case("a user and a password", reaches(f"http://{PUBLIC}:80@10.0.0.5/", off="plain")),
    Case("a redirect with a user", reaches(site(), routes=redirecting(f"http://{PUBLIC}@127.0.0.1/"), off="plain")),
    Case("another port of a public host", reaches(f"http://{PUBLIC}:6379/")),
    Case("a redirect to another port", reaches(site(), routes=redirecting(f"http://{PUBLIC}:22/"))),
    Case("the proxy of the environment", reaches(site(), routes={"/": OK}, off="proxy")),
    Case("an endless body", abuse(drip(ENDLESS, b"x" * 65536))),
    Case("an endless line of headers", abuse(drip(b"HTTP/1.1 200 OK\r\nA: ", b"x", 0.2, 25))),
    Case("a body by the byte", abuse(drip(ENDLESS, b"x", 0.25, 24))),
    Case("a compressed body that unpacks to much", abuse(gzip_bomb(32_000_000))),
    Case("a file by its scheme", reads("file://FOLDER/canary.txt")),
    Case("up and out of an indexed folder", reads("local:notes/../canary.txt")),
    Case("encoded dots", reads("local:notes/%2e%2e/canary.txt")),
    Case("an absolute path", reads("local:FOLDER/canary.txt")),
    Case("a link in an indexed folder", reads("local:notes/link.txt")),
]


async def happened(world: World, case: Case, guarded: bool) -> tuple[bool, str]:
    """(whether, what stopped it)."""
    world.canary.clear()
    said = ""
    try:
        async with asyncio.timeout(30):
            back = await case.run(world, guarded)
    except MoontideError as error:
        back, said = False, error.code
    except Exception as error:  # noqa: BLE001 - a careless client may fail behind the escape
        back, said = False, type(error).__name__
    return back or bool(world.canary), said


async def main() -> int:
    escaped = harmless = 0
    async with World.open() as world:
        for case in CASES:
            off, _ = await happened(world, case, guarded=False)
            on, refusal = await happened(world, case, guarded=True)
            escaped, harmless = escaped + on, harmless + (not off)
            print(json.dumps({"case": case.name, "off": off, "on": on, "refusal": refusal}), flush=True)
    print(json.dumps({"cases": len(CASES), "escaped_with_guard": escaped, "harmless_without": harmless}), flush=True)
    return 1 if escaped or harmless else 0


if __name__ == "__main__":
    try:
        enter()
    except OSError as error:
        sys.exit(f"no internet of one's own: {error}")
    sys.exit(asyncio.run(main()))
