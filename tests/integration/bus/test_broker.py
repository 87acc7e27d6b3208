"""The embedded broker: private, kept over a restart, one per directory, and gone with its parent."""

import asyncio
import socket
import stat
import sys
from pathlib import Path

import pytest

from shared.bus.broker import Broker, find_program
from shared.bus.connection import BusConfig, connect
from shared.bus.interface import WorkQueue
from shared.errors import Busy, Unauthorized, Unavailable
from tests.integration.process import ROOT
from tests.waiting import until

QUEUE = WorkQueue(stream="KEPT", subjects=("kept.*",), durable="reader", max_jobs=1)


async def test_port_credentials_and_data_are_kept_over_a_restart(broker_directory: Path) -> None:
    first = Broker.prepare(broker_directory)
    await first.start()
    async with connect(first.config, "a") as bus:
        await bus.declare(QUEUE)
        await bus.enqueue("kept.1", b"", message_id="1")
    await first.stop()
    again = Broker.prepare(broker_directory)
    assert (again.url, again.user, again.password_file) == (first.url, first.user, first.password_file)
    await again.start()
    try:
        async with connect(first.config, "a") as bus:
            with pytest.raises(Busy):
                await bus.enqueue("kept.2", b"", message_id="2")
    finally:
        await again.stop()


async def test_only_this_user_may_read_the_secrets_and_only_the_password_opens(broker: Broker) -> None:
    directory = broker.password_file.parent
    secret = broker.password_file.read_text()
    for path in directory.iterdir():
        if path.is_file() and secret.encode() in path.read_bytes():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(secret) >= 24
    assert not any(secret in argument for argument in broker.command())
    with pytest.raises(Unauthorized):
        async with connect(BusConfig(nats_url=broker.url), "stranger"):
            pass


def test_it_listens_on_the_loopback_interface_only(broker: Broker) -> None:
    port = int(broker.url.rsplit(":", 1)[1])
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines() if f":{port:04X} " in line]
    assert {address.split(":")[0] for address in listening} == {"0100007F"}


async def test_two_stacks_do_not_see_each_other(broker: Broker, broker_directory: Path) -> None:
    other = Broker.prepare(broker_directory)
    assert other.url != broker.url
    assert other.password_file.read_text() != broker.password_file.read_text()
    strange = BusConfig(nats_url=other.url, user=broker.user, password_file=broker.password_file)
    await other.start()
    try:
        with pytest.raises(Unauthorized):
            async with connect(strange, "stranger"):
                pass
    finally:
        await other.stop()


async def test_one_directory_has_one_broker(broker_directory: Path) -> None:
    first = Broker.prepare(broker_directory)
    second = Broker.prepare(broker_directory)
    await first.start()
    try:
        with pytest.raises(Unavailable):
            await second.start()
        with pytest.raises(Unavailable):
            Broker.prepare(broker_directory)
    finally:
        await first.stop()


async def test_a_taken_port_is_replaced(broker_directory: Path) -> None:
    first = Broker.prepare(broker_directory)
    with socket.create_server(("127.0.0.1", int(first.url.rsplit(":", 1)[1]))):
        assert Broker.prepare(broker_directory).url != first.url


PARENT = """
import subprocess, sys
from pathlib import Path
from shared.bus.broker import Broker
child = subprocess.Popen(Broker.prepare(Path(sys.argv[1])).command())
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent ended")
async def test_it_ends_with_a_killed_parent(broker_directory: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(broker_directory), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    await until(lambda: _command(child).startswith(str(find_program())))
    parent.kill()
    await parent.wait()
    await until(lambda: not _command(child))


def _command(pid: int) -> str:
    """The command line of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
