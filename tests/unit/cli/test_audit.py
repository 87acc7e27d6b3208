"""`moontide audit` over a real broker: one that runs, one that is started for it, and none."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from schemas.events import RequestData
from services.cli import stack
from services.cli.__main__ import run
from services.cli.config import DataConfig
from services.cli.topology import Layout
from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.clock import SystemClock
from shared.request_events import RequestEvents


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Of a stack that ran."""
    monkeypatch.setenv("MOONTIDE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("NATS_URL", raising=False)
    found = stack.port_layout(DataConfig(dir=tmp_path), 8080)
    found.make()
    return found


@contextmanager
def running(layout: Layout) -> Iterator[Broker]:
    broker = Broker.prepare(layout.broker)
    process = subprocess.Popen(broker.command())
    try:
        asyncio.run(broker.wait_ready())
        yield broker
    finally:
        process.terminate()
        process.wait(10)


async def write(broker: Broker, *, accepted: bool) -> None:
    async with connect(broker.config, "gateway") as bus:
        events = RequestEvents(bus, SystemClock(), "gateway")
        await events.declare(1 << 20, 600.0)
        chat = RequestData(request_id="chatcmpl-1", holder=bus.instance, kind="chat")
        if accepted:
            await events.record_accepted(chat)
        await events.record_terminal("finished", chat)


def test_without_a_stack_there_is_nothing_to_audit(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit"]) == 1
    assert "no stack has run" in capsys.readouterr().err
    assert run(["audit", "--stack", "port-1"]) == 1
    assert "no stack port-1" in capsys.readouterr().err


def test_a_stopped_stack_is_read_from_what_it_kept(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    with running(layout) as broker:
        asyncio.run(write(broker, accepted=True))
    assert run(["audit", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["stack"], told["live"], told["requests"], told["findings"]) == ("port-8080", False, 1, [])
    assert run(["audit", "--stack", "port-8080"]) == 0
    words = "port-8080: 1 accepted ids, 0 runs with 0 entries, 0 blobs: no violation\n"
    assert capsys.readouterr().out == words


def test_a_violation_in_a_running_stack_is_told_and_is_the_exit_code(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = stack.Lock.take(layout)
    assert lock is not None
    try:
        with running(layout) as broker:
            asyncio.run(write(broker, accepted=False))
            assert run(["audit"]) == 1
            assert "record.not_accepted  chatcmpl-1" in capsys.readouterr().out
            assert run(["audit", "--json"]) == 1
            (finding,) = json.loads(capsys.readouterr().out)["findings"]
            assert (finding["code"], finding["id"]) == ("record.not_accepted", "chatcmpl-1")
    finally:
        lock.release()
