"""The network, and sockets of every other kind."""

import asyncio
import os
import platform
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.escape.attack import Judge, Prepare, Trace, program, said_won
from tests.escape.case import Ground, LeftOut
from tests.escape.libc import root_only

HEARD_SECONDS = 2.0


def connect_tcp(g: dict[str, Any]) -> None:
    """talk to a TCP service on loopback"""
    socket.create_connection(("127.0.0.1", g["port"]), 2).sendall(b"heard")


def connect_tcp_6(g: dict[str, Any]) -> None:
    """talk to a TCP service on loopback over IPv6"""
    socket.create_connection(("::1", g["port"]), 2).sendall(b"heard")


def fetch_http(g: dict[str, Any]) -> None:
    """fetch a page with the standard library"""
    import urllib.request

    urllib.request.urlopen(f"http://127.0.0.1:{g['port']}/heard", timeout=2)


def send_udp(g: dict[str, Any]) -> None:
    """send a datagram, as DNS would"""
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"heard", ("127.0.0.1", g["port"]))


def connect_by_shell(g: dict[str, Any]) -> None:
    """talk to a TCP service with the shell's own sockets"""
    os.system(f"bash -c 'echo heard > /dev/tcp/127.0.0.1/{g['port']}'")


def connect_unix(g: dict[str, Any]) -> None:
    """talk to a service at a socket of the file system"""
    talk = socket.socket(socket.AF_UNIX)
    talk.connect(g["path"])
    talk.sendall(b"heard")


def send_unix(g: dict[str, Any]) -> None:
    """send a datagram to a socket of the file system"""
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"heard", g["path"])


def connect_abstract(g: dict[str, Any]) -> None:
    """talk to a service at an abstract socket"""
    talk = socket.socket(socket.AF_UNIX)
    talk.connect("\0" + g["name"])
    talk.sendall(b"heard")


def offer_tcp(g: dict[str, Any]) -> None:
    """offer a service that the machine can reach"""
    server = socket.create_server(("127.0.0.1", g["port"]))
    server.settimeout(3)
    server.accept()[0].sendall(b"heard")


def listen_raw(g: dict[str, Any]) -> None:
    """listen to what others send, with a raw socket"""
    ear = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    ear.settimeout(2)
    print("listening", flush=True)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        if g["mark"].encode() in ear.recv(65536):
            print("the kernel said yes")
            return


def list_interfaces(g: dict[str, Any]) -> None:
    """ask the kernel for its network devices over netlink"""
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).bind((0, 0))
    print("the kernel said yes")


def ring(g: dict[str, Any]) -> None:
    """get an io_uring, whose work no filter of system calls sees"""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(425, 4, ctypes.create_string_buffer(256)) >= 0:
        print("the kernel said yes")


@asynccontextmanager
async def heard_by(ground: Ground, server: asyncio.Server) -> AsyncIterator[None]:
    async with server:
        yield


def ear(ground: Ground) -> Any:
    """Notes that somebody spoke."""
    ground.facts["heard"] = False

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ground.facts["heard"] = ground.facts["heard"] or b"heard" in await reader.read(1000)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    return hear


def tcp_on(host: str) -> Prepare:
    @asynccontextmanager
    async def prepared(ground: Ground) -> AsyncIterator[None]:
        try:
            server = await asyncio.start_server(ear(ground), host, 0)
        except OSError as error:
            raise LeftOut(f"nobody can listen on {host}") from error
        ground.facts["port"] = server.sockets[0].getsockname()[1]
        async with server:
            yield

    return prepared


@asynccontextmanager
async def a_unix_server(ground: Ground) -> AsyncIterator[None]:
    ground.facts["path"] = str(ground.outside / "socket")
    async with await asyncio.start_unix_server(ear(ground), ground.facts["path"]):
        yield


@asynccontextmanager
async def an_abstract_server(ground: Ground) -> AsyncIterator[None]:
    ground.facts["name"] = ground.token
    async with await asyncio.start_unix_server(ear(ground), "\0" + ground.token):
        yield


def datagrams(family: int, address: Any) -> Prepare:
    @asynccontextmanager
    async def prepared(ground: Ground) -> AsyncIterator[None]:
        with socket.socket(family, socket.SOCK_DGRAM) as server:
            server.bind(address(ground))
            server.setblocking(False)
            if family == socket.AF_INET:
                ground.facts["port"] = server.getsockname()[1]
            ground.facts["heard"] = False
            listening = asyncio.create_task(_one_datagram(ground, server))
            yield
            listening.cancel()
            await asyncio.wait([listening])

    return prepared


async def _one_datagram(ground: Ground, server: socket.socket) -> None:
    ground.facts["heard"] = await asyncio.get_running_loop().sock_recv(server, 100) == b"heard"


def unix_place(ground: Ground) -> str:
    ground.facts["path"] = str(ground.outside / "socket")
    return ground.facts["path"]


async def heard(ground: Ground, trace: Trace) -> bool:
    for _ in range(20):
        if ground.facts["heard"]:
            return True
        await asyncio.sleep(0.02)
    return False


@asynccontextmanager
async def a_caller(ground: Ground) -> AsyncIterator[None]:
    """Tries to reach the service that the attack offers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        ground.facts["port"] = probe.getsockname()[1]
    ground.facts["heard"] = False
    calling = asyncio.create_task(_call(ground))
    yield
    calling.cancel()
    await asyncio.wait([calling])


async def _call(ground: Ground) -> None:
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", ground.facts["port"])
            ground.facts["heard"] = await reader.read(100) == b"heard"
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def a_talk(ground: Ground) -> AsyncIterator[None]:
    root_only()
    ground.facts["mark"] = ground.token[:8]
    talking = asyncio.create_task(_talk(ground.facts["mark"].encode()))
    yield
    talking.cancel()
    await asyncio.wait([talking])


async def _talk(mark: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        while True:
            mouth.sendto(mark, ("127.0.0.1", 9))
            await asyncio.sleep(0.05)


@asynccontextmanager
async def a_ring(ground: Ground) -> AsyncIterator[None]:
    if platform.machine() not in ("x86_64", "aarch64"):
        raise LeftOut("its number is not known here")
    yield


JUDGED: list[tuple[Any, Judge, Prepare, bool]] = [
    (connect_tcp, heard, tcp_on("127.0.0.1"), True),
    (connect_tcp_6, heard, tcp_on("::1"), False),
    (fetch_http, heard, tcp_on("127.0.0.1"), False),
    (connect_by_shell, heard, tcp_on("127.0.0.1"), False),
    (send_udp, heard, datagrams(socket.AF_INET, lambda ground: ("127.0.0.1", 0)), False),
    (connect_unix, heard, a_unix_server, True),
    (send_unix, heard, datagrams(socket.AF_UNIX, unix_place), False),
    (connect_abstract, heard, an_abstract_server, True),
    (offer_tcp, heard, a_caller, False),
    (listen_raw, said_won, a_talk, False),
    (list_interfaces, said_won, tcp_on("127.0.0.1"), False),
    (ring, said_won, a_ring, False),
]
CASES = [program("network", attack, won, prepare, quick=quick) for attack, won, prepare, quick in JUDGED]
