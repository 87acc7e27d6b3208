"""One stack on this machine: its directory, its lock, who runs it, and running it for as long as a body needs it.

Input: a data directory and what to serve. Output: the URL of a gateway that is ready. Two
processes never share a stack.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import msgspec

from schemas import codec
from services.cli import topology
from services.cli.client import GatewayClient
from services.cli.config import DataConfig
from services.cli.supervisor import Report, StackFailed, Supervisor, supervised
from services.cli.topology import HOST, Layout, Serving
from shared import config as configuration
from shared.bus.broker import Broker
from shared.errors import Unavailable

OWN_STACKS = 64


class StackState(msgspec.Struct, frozen=True, kw_only=True):
    """``stack.json``: exists while the stack is ready."""

    pid: int
    url: str
    model: str
    checkpoint: str
    upstream: str = ""
    started_unix_seconds: float


class Lock:
    """An exclusive lock on a stack's directory, held until closed or until this process ends."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @classmethod
    def take(cls, layout: Layout) -> "Lock | None":
        """None when somebody else holds it."""
        layout.make()
        file = layout.lock.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return cls(file)

    def release(self) -> None:
        self._file.close()


def stacks_dir(data: DataConfig) -> Path:
    return data.root / "stacks"


def port_layout(data: DataConfig, port: int) -> Layout:
    return Layout(stacks_dir(data) / f"port-{port}")


@contextlib.contextmanager
def locked(layout: Layout) -> Iterator[Layout]:
    """Raises StackFailed when the stack runs already."""
    lock = Lock.take(layout)
    if lock is None:
        raise StackFailed(f"this stack runs already: {layout.directory}")
    try:
        yield layout
    finally:
        lock.release()


@contextlib.contextmanager
def locked_own(data: DataConfig) -> Iterator[Layout]:
    """The first stack that nobody uses: its cached results and traces are used again and stay afterwards."""
    for number in range(1, OWN_STACKS + 1):
        layout = Layout(stacks_dir(data) / f"own-{number}")
        lock = Lock.take(layout)
        if lock is not None:
            try:
                yield layout
            finally:
                lock.release()
            return
    raise StackFailed(f"{OWN_STACKS} stacks run already in {stacks_dir(data)}")


def check_port_free(port: int) -> None:
    """Raises StackFailed in words, before anything is started."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise StackFailed(f"port {port} on {HOST} cannot be used: {error.strerror}; try another --port") from error


@asynccontextmanager
async def started(
    layout: Layout, serving: Serving, data: DataConfig, report: Report
) -> AsyncIterator[tuple[str, Supervisor]]:
    """Yields (URL, supervisor) of a stack that is ready. The caller holds the lock. Raises StackFailed."""
    for old in (layout.port_file, layout.state):
        old.unlink(missing_ok=True)
    broker = await _prepared(layout) if data.nats_url is None else None
    environ = topology.inherited(configuration.environment())
    waves = topology.waves(layout, serving, broker, environ)
    late = topology.late(layout, serving, broker, environ)
    async with supervised(waves, topology.drain_order(serving, broker), report, late=late) as supervisor:
        url = f"http://{HOST}:{layout.port()}"
        await _wait_answering(url)
        supervisor.start_late()
        _write_state(layout, url, serving)
        try:
            yield url, supervisor
        finally:
            layout.state.unlink(missing_ok=True)


async def _prepared(layout: Layout, seconds: float = 5.0) -> Broker:
    """The broker of a stack whose last supervisor was killed may need a moment to end. Raises Unavailable."""
    end = time.monotonic() + seconds
    while True:
        try:
            return Broker.prepare(layout.broker)
        except Unavailable:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.05)


async def run_with(
    layout: Layout, serving: Serving, data: DataConfig, report: Report, body: Callable[[str], Awaitable[int]]
) -> int:
    """``body(url)`` beside a running stack. Raises StackFailed when the stack fails first."""
    async with started(layout, serving, data, report) as (url, supervisor):
        work = asyncio.ensure_future(body(url))
        try:
            await asyncio.wait((work, supervisor.failure), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                supervisor.failure.result()
            return work.result()
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def _wait_answering(url: str, seconds: float = 60.0) -> None:
    """Ready as a whole: the gateway finds somebody who answers."""
    end = time.monotonic() + seconds
    async with GatewayClient.open(url) as client:
        while not await client.is_ready():
            if time.monotonic() > end:
                raise StackFailed(f"the gateway at {url} is not ready after {seconds:.0f} s")
            await asyncio.sleep(0.05)


def _write_state(layout: Layout, url: str, serving: Serving) -> None:
    state = StackState(
        pid=os.getpid(),
        url=url,
        model=serving.model,
        checkpoint=str(serving.checkpoint or ""),
        upstream=str(serving.upstream.url or serving.upstream.table_file) if serving.upstream is not None else "",
        started_unix_seconds=time.time(),
    )
    partial = layout.state.with_suffix(".partial")
    partial.write_bytes(codec.encode_json(state))
    partial.replace(layout.state)


def read_state(layout: Layout) -> StackState | None:
    """None when the stack does not run (or its supervisor was killed)."""
    try:
        state = codec.decode_json(layout.state.read_bytes(), StackState)
        os.kill(state.pid, 0)
    except (OSError, msgspec.MsgspecError):
        return None
    return state


async def running(data: DataConfig, pattern: str = "*") -> list[StackState]:
    """Stacks that answer, newest first. ``port-*``: only those started by `up`."""
    states = [read_state(Layout(path)) for path in sorted(stacks_dir(data).glob(pattern))]
    candidates = [state for state in states if state is not None]
    answers = await asyncio.gather(*(_answers(state.url) for state in candidates))
    alive = [state for state, answer in zip(candidates, answers, strict=True) if answer]
    return sorted(alive, key=lambda state: -state.started_unix_seconds)


async def _answers(url: str) -> bool:
    async with GatewayClient.open(url) as client:
        return await client.is_ready()
