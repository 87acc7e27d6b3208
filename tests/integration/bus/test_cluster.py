"""Three servers with three replicas of each stream: what one of them dies over is not lost, and stays in order."""

import asyncio
import secrets
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from schemas.runs import LeaseTaken, ModelAsked, RunEnded
from shared.bus.broker import find_program
from shared.bus.connection import BusConfig, NatsBus, connect
from shared.clock import SystemClock
from shared.errors import MoontideError
from shared.ledger.audit import run_findings
from shared.ledger.journal import Fenced, Ledger, ledger_stream
from tests.unit.ledger.history import accepted, answer

_CONFIGURATION = """
server_name: {name}
listen: 127.0.0.1:{port}
jetstream {{ store_dir: "{store}", max_file_store: 1GB, sync_interval: always }}
cluster {{ name: test, listen: 127.0.0.1:{route}, routes: [{routes}] }}
log_file: "{log}"
"""


@dataclass
class Server:
    name: str
    port: int
    process: subprocess.Popen[bytes]


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    ports = free_ports(6)
    routes = ", ".join(f"nats-route://127.0.0.1:{port}" for port in ports[3:])
    found: list[Server] = []
    try:
        for number in range(3):
            name, config = f"s{number}", tmp_path / f"s{number}.conf"
            text = _CONFIGURATION.format(
                name=name,
                port=ports[number],
                route=ports[3 + number],
                routes=routes,
                store=tmp_path / name,
                log=tmp_path / f"{name}.log",
            )
            config.write_text(text)
            process = subprocess.Popen([str(find_program()), "--config", str(config)])
            found.append(Server(name, ports[number], process))
        yield found
    finally:
        for server in found:
            server.process.kill()
            server.process.wait(10)


@asynccontextmanager
async def connected(servers: list[Server]) -> AsyncIterator[NatsBus]:
    urls = ",".join(f"nats://127.0.0.1:{server.port}" for server in servers)
    async with connect(BusConfig(nats_url=urls, stream_replicas=3), "test") as bus:
        yield bus


async def declared(ledger: Ledger) -> None:
    """Once the cluster has elected whoever decides."""
    async with asyncio.timeout(60.0):
        while True:
            try:
                await ledger.declare(partition_bytes=1 << 24)
                return
            except MoontideError:
                await asyncio.sleep(0.5)


@pytest.mark.timeout(240)
async def test_the_loss_of_a_leader_loses_nothing_and_lets_nobody_in(servers: list[Server]) -> None:
    run_id = f"run-{secrets.token_hex(4)}"
    async with connected(servers) as bus, connected(servers[::-1]) as other:
        ledger = Ledger(bus, SystemClock())
        await declared(ledger)
        first = await ledger.accept(accepted(run_id))
        writer = ledger.writer(run_id, "one", 1, first.sequence)
        await writer.append([LeaseTaken(owner="one", term=1)])
        for step in range(1, 21):
            await writer.append([ModelAsked(step=step, message_count=step), answer(step)])
            if step == 10:
                await kill_leader(bus, servers, ledger_stream(run_id))
        state = await Ledger(other, SystemClock()).state(run_id)
        assert state.step == 20
        new = Ledger(other, SystemClock()).writer(run_id, "two", 2, state.last_sequence)
        await new.append([LeaseTaken(owner="two", term=2)])
        with pytest.raises(Fenced):
            await writer.append([ModelAsked(step=21, message_count=21)])
        await new.append([RunEnded(outcome="finished")])
        entries = [numbered async for numbered in ledger.entries(run_id)]
        assert len(entries) == 24
        assert run_findings(run_id, entries) == []
        assert list(await ledger.runs()) == [run_id]


async def kill_leader(bus: NatsBus, servers: list[Server], stream: str) -> None:
    info = await bus._link.streams.stream_info(stream)
    assert info.config.num_replicas == 3
    assert info.cluster is not None
    leader = next(server for server in servers if server.name == info.cluster.leader)
    leader.process.kill()
    leader.process.wait(10)
