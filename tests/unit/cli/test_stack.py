"""A stack's directory belongs to one process, and its services are told what they need."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.cli import config, stack, topology
from services.cli.__main__ import run
from services.cli.config import DataConfig
from services.cli.supervisor import StackFailed, supervised
from services.cli.topology import DRAIN_ORDER, Layout, Serving, Upstream
from shared import config as configuration
from shared.bus.broker import Broker
from tests.unit.cli.children import is_running

SERVING = Serving(checkpoint=Path("/models/k2"), model="k2", port=0)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return DataConfig(dir=tmp_path)


def test_the_data_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert config.load().root == tmp_path / "data"
    monkeypatch.delenv("MOONTIDE_DATA_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert config.load().root == tmp_path / "xdg" / "moontide"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config.load().root == tmp_path / ".local" / "share" / "moontide"


def test_two_supervisors_never_share_a_stack(data: DataConfig) -> None:
    layout = stack.port_layout(data, 8080)
    with stack.locked(layout), pytest.raises(StackFailed, match="runs already"), stack.locked(layout):
        pytest.fail("locked twice")
    with stack.locked(layout):
        pass


def test_an_own_stack_is_the_first_that_nobody_uses(data: DataConfig) -> None:
    with stack.locked_own(data) as first, stack.locked_own(data) as second:
        assert [first.directory.name, second.directory.name] == ["own-1", "own-2"]
    with stack.locked_own(data) as again:
        assert again.directory.name == "own-1"


def test_a_lock_ends_with_its_process(data: DataConfig) -> None:
    program = (
        "import sys, signal, pathlib; from services.cli import stack; from services.cli.config import DataConfig\n"
        "with stack.locked_own(DataConfig(dir=pathlib.Path(sys.argv[1]))) as own:\n"
        "    print(own.directory.name, flush=True); signal.pause()"
    )
    command = [sys.executable, "-c", program, str(data.root)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=topology.python_path())
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "own-1\n"
        with stack.locked_own(data) as beside:
            assert beside.directory.name == "own-2"
    finally:
        holder.kill()
        holder.communicate()
    with stack.locked_own(data) as own:
        assert own.directory.name == "own-1"


def test_a_port_in_use_is_a_failure_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run(["up", "--port", str(port)]) == 1
    assert f"port {port} on 127.0.0.1 cannot be used" in capsys.readouterr().err


def test_a_gateway_that_restarts_keeps_its_port(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    assert topology.variables("gateway", layout, SERVING)["MOONTIDE_GATEWAY_PORT"] == "0"
    layout.port_file.write_text("43210\n")
    assert topology.variables("gateway", layout, SERVING)["MOONTIDE_GATEWAY_PORT"] == "43210"


def test_services_are_told_by_environment_alone(tmp_path: Path) -> None:
    environ = {"NATS_URL": "nats://bus:4222", "PATH": "/bin", "MOONTIDE_SERVICE_LOG_LEVEL": "DEBUG"}
    specs = {spec.name: spec for wave in topology.waves(Layout(tmp_path), SERVING, None, environ) for spec in wave}
    assert set(specs) == {"recorder", "inference", "tokenizer", "ingest", "gateway"}
    late = {spec.name: spec for spec in topology.late(Layout(tmp_path), SERVING, None, environ)}
    assert set(late) == {"tools", "coordinator"}
    assert {*specs, *late} == set(topology.drain_order(SERVING, None))
    assert DRAIN_ORDER[-1] == topology.BROKER
    for name, spec in specs.items():
        told = spec.environment()
        assert spec.command[-2:] == ("-m", f"services.{name}")
        assert told["NATS_URL"] == "nats://bus:4222"
        assert told["MOONTIDE_SERVICE_LOG_LEVEL"] == "DEBUG"
        assert told["MOONTIDE_SERVICE_BLOBS_URL"] == f"file://{tmp_path}/blobs"
        assert told["MOONTIDE_SERVICE_READY_FILE"] == str(spec.ready_file)
    assert specs["tokenizer"].environment()["MOONTIDE_TOKENIZER_MODEL"] == "k2"
    assert specs["inference"].environment()["MOONTIDE_INFERENCE_CHECKPOINT_DIR"] == "/models/k2"


def test_an_endpoint_needs_neither_tokenizer_nor_inference(tmp_path: Path) -> None:
    upstream = Upstream(url="http://host/v1", key_file=Path("/keys/one"), max_frames=8)
    serving = Serving(port=0, upstream=upstream)
    environ = {"MOONTIDE_UPSTREAM_REMOTE_MODEL": "as the environment says"}
    specs = {spec.name: spec for wave in topology.waves(Layout(tmp_path), serving, None, environ) for spec in wave}
    assert set(specs) == {"recorder", "upstream", "ingest", "gateway"}
    assert {*specs, "tools", "coordinator"} == set(topology.drain_order(serving, None))
    told = {name: value for name, value in specs["upstream"].environment().items() if "UPSTREAM" in name}
    assert told == {
        "MOONTIDE_UPSTREAM_URL": "http://host/v1",
        "MOONTIDE_UPSTREAM_KEY_FILE": "/keys/one",
        "MOONTIDE_UPSTREAM_REMOTE_MODEL": "as the environment says",
        "MOONTIDE_UPSTREAM_MAX_FRAMES": "8",
    }
    assert "MOONTIDE_UPSTREAM_URL" not in specs["gateway"].environment()


def test_a_stack_whose_process_is_gone_does_not_run(data: DataConfig) -> None:
    layout = stack.port_layout(data, 8080)
    layout.make()
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    for pid, runs in ((os.getpid(), True), (int(gone.stdout), False)):
        state = {"pid": pid, "url": "http://127.0.0.1:1", "model": "k2", "checkpoint": "", "started_unix_seconds": 0.0}
        layout.state.write_text(json.dumps(state))
        assert (stack.read_state(layout) is not None) is runs
    layout.state.write_text("{")
    assert stack.read_state(layout) is None


async def test_a_stack_that_does_not_answer_is_not_used(data: DataConfig) -> None:
    layout = stack.port_layout(data, 8080)
    layout.make()
    state = {"pid": os.getpid(), "url": "http://127.0.0.1:9", "model": "k2", "checkpoint": ""}
    layout.state.write_text(json.dumps(state | {"started_unix_seconds": time.time()}))
    assert await stack.running(data) == []


async def test_a_killed_broker_comes_back_where_it_was(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    broker = Broker.prepare(layout.broker)
    spec = topology.broker_spec(broker, layout, configuration.environment())
    async with supervised([[spec]], [topology.BROKER], print) as supervisor:
        child = supervisor.children[topology.BROKER]
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(20):
            while child.pid in (None, first):  # noqa: ASYNC110 - what is waited for happens in another process
                await asyncio.sleep(0.01)
            await child.ready.wait()
        await broker.wait_ready()
        second = child.pid
    assert second is not None
    assert not is_running(second)
