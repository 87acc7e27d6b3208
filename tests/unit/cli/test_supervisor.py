"""The supervisor keeps real processes running, drains them in order, and leaves nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli import child as processes
from services.cli.supervisor import RestartPolicy, StackFailed, Supervisor, supervised
from tests.unit.cli.children import DEADLINE_SECONDS, QUICK, is_running, spec, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


async def eventually(condition: Callable[[], bool], what: str) -> None:
    await asyncio.wait_for(_poll(condition), DEADLINE_SECONDS)
    assert condition(), what


async def _poll(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
        await asyncio.sleep(0.01)


def pids(supervisor: Supervisor) -> list[int]:
    return [child.pid for child in supervisor.children.values() if child.pid is not None]


async def test_a_killed_child_is_restarted_and_said_to_be(tmp_path: Path) -> None:
    said: list[str] = []
    async with supervised([[spec(tmp_path, "ingest")]], ["ingest"], said.append, QUICK) as supervisor:
        child = supervisor.children["ingest"]
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: child.ready.is_set() and child.pid not in (None, first), "a second process")
        second = child.pid
    assert second is not None
    assert not is_running(second)
    assert "ingest was killed by signal 9, restarting now" in said
    assert sum("ingest ready" in line for line in said) == 2


async def test_children_drain_in_order_whatever_the_order_they_started_in(tmp_path: Path) -> None:
    names = ["broker", "recorder", "ingest", "gateway"]
    waves = [[spec(tmp_path, "broker")], [spec(tmp_path, "ingest"), spec(tmp_path, "recorder")]]
    async with supervised([*waves, [spec(tmp_path, "gateway")]], names[::-1], print, QUICK) as supervisor:
        running = pids(supervisor)
        assert len(running) == 4
    assert (tmp_path / "order").read_text().split() == names[::-1]
    assert not any(is_running(pid) for pid in running)


async def test_a_wave_starts_when_the_one_before_is_ready(tmp_path: Path) -> None:
    said: list[str] = []
    waves = [[spec(tmp_path, "broker")], [spec(tmp_path, "gateway")]]
    async with supervised(waves, ["gateway", "broker"], said.append, QUICK):
        pass
    assert [line.split()[0] for line in said] == ["broker", "gateway"]


async def test_a_child_that_will_not_drain_is_killed_with_what_it_started(tmp_path: Path) -> None:
    said: list[str] = []
    deaf = spec(tmp_path, "ingest", "deaf", drain_seconds=0.2)
    async with supervised([[deaf]], ["ingest"], said.append, QUICK) as supervisor:
        running = [*pids(supervisor), int((tmp_path / "ingest.grandchild").read_text())]
    await eventually(lambda: not any(is_running(pid) for pid in running), "child and grandchild gone")
    assert any("did not drain" in line for line in said)


async def test_a_frozen_child_does_not_outlive_its_supervisor(tmp_path: Path) -> None:
    frozen = spec(tmp_path, "ingest", drain_seconds=0.2)
    async with supervised([[frozen]], ["ingest"], print, QUICK) as supervisor:
        running = pids(supervisor)
        os.kill(running[0], signal.SIGSTOP)
    assert not is_running(running[0])


async def test_what_a_killed_child_had_started_goes_with_it(tmp_path: Path) -> None:
    deaf = spec(tmp_path, "ingest", "deaf", drain_seconds=0.2)
    async with supervised([[deaf]], ["ingest"], print, QUICK) as supervisor:
        grandchild = int((tmp_path / "ingest.grandchild").read_text())
        os.kill(pids(supervisor)[0], signal.SIGKILL)
        await eventually(lambda: not is_running(grandchild), "the grandchild gone")


async def test_bad_configuration_stops_the_stack_with_its_message(tmp_path: Path) -> None:
    waves = [[spec(tmp_path, "broker")], [spec(tmp_path, "tokenizer", "misconfigured")]]
    supervisor = Supervisor(waves, ["tokenizer", "broker"], print)
    try:
        with pytest.raises(StackFailed, match=r"(?s)tokenizer ended with exit code 2.*MOONTIDE_TOKENIZER_SIZE"):
            await supervisor.start()
        running = pids(supervisor)
        assert len(running) == 1
    finally:
        await supervisor.stop()
    assert not is_running(running[0])
    assert (tmp_path / "order").read_text().split() == ["broker"]


async def test_a_child_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(StackFailed, match="ended with exit code 1"):
        async with supervised([[spec(tmp_path, "ingest", "broken")]], ["ingest"], said.append, QUICK):
            pytest.fail("it cannot be ready")
    assert sum("restarting" in line for line in said) == QUICK.max_failed_starts - 1


async def test_nobody_waits_for_late_children_and_a_broken_one_is_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    late = [spec(tmp_path, "tools"), spec(tmp_path, "coordinator", "misconfigured")]
    order = ["coordinator", "ingest", "tools"]
    async with supervised([[spec(tmp_path, "ingest")]], order, said.append, QUICK, late) as supervisor:
        assert not any("tools" in line for line in said)
        supervisor.start_late()
        tools = supervisor.children["tools"]
        await asyncio.wait_for(tools.ready.wait(), 20)
        await eventually(lambda: any("going on without coordinator" in line for line in said), "the broken one")
        assert not supervisor.failure.done()
    assert tools.pid is None


async def test_a_failure_while_running_is_seen(tmp_path: Path) -> None:
    async with supervised([[spec(tmp_path, "ingest")]], ["ingest"], print, QUICK) as supervisor:
        child = supervisor.children["ingest"]
        child.spec = spec(tmp_path, "ingest", "misconfigured")
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(StackFailed, match="exit code 2"):
            await asyncio.wait_for(asyncio.shield(supervisor.failure), DEADLINE_SECONDS)


async def test_a_program_that_does_not_exist_is_a_failure_in_words(tmp_path: Path) -> None:
    missing = processes.ChildSpec(
        name="broker",
        command=(str(tmp_path / "nats-server"),),
        environment=dict,
        log_path=tmp_path / "broker.log",
        wait_ready=lambda: processes.file_exists(tmp_path / "never"),
    )
    with pytest.raises(StackFailed, match="broker cannot be started"):
        async with supervised([[missing]], ["broker"], print):
            pytest.fail("it cannot be ready")


async def test_a_second_interruption_ends_the_drain_at_once(tmp_path: Path) -> None:
    deaf = spec(tmp_path, "ingest", "deaf", drain_seconds=600.0)
    supervisor = Supervisor([[deaf]], ["ingest"], print, QUICK)
    await supervisor.start()
    running = pids(supervisor)
    stopping = asyncio.create_task(supervisor.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await eventually(lambda: not is_running(running[0]), "the child gone")


def test_nothing_is_left_behind_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    program = Path(__file__).with_name("supervise_program.py")
    command = [sys.executable, str(program), str(tmp_path), "broker", "ingest", "gateway"]
    supervisor = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until((tmp_path / "pids").exists, "children ready")
        children = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert len(children) == 3
        assert all(is_running(pid) for pid in children)
    finally:
        supervisor.kill()
        supervisor.wait()
    wait_until(lambda: not any(is_running(pid) for pid in children), "every child gone")
    assert not (tmp_path / "order").exists()


@given(st.integers(1, 10_000))
def test_pauses_grow_from_none_to_their_bound(restart_number: int) -> None:
    policy = RestartPolicy()
    assert policy.pause_seconds(1) == 0.0
    assert policy.pause_seconds(restart_number) <= policy.pause_seconds(restart_number + 1) <= policy.max_pause_seconds


def test_a_log_is_bounded_and_its_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "logs" / "ingest.log"
    processes.bound_log(log)
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    assert processes.log_tail(log, lines=2) == "line 98\nline 99"
    assert processes.log_tail(log, since=log.stat().st_size) == ""
    monkeypatch.setattr(processes, "LOG_MAX_BYTES", 10)
    processes.bound_log(log)
    assert log.stat().st_size == 0
    assert log.with_suffix(".log.1").stat().st_size > 10
