"""A real `moontide up` of its own for tests: started, watched from outside, stopped; nothing of it is mocked."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import openai
import requests

ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def wait_until(condition: Callable[[], T], seconds: float, what: str) -> T:
    """The first truthy value of ``condition``; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class ProcessInfo:
    pid: int
    parent: int
    command: str


def processes() -> list[ProcessInfo]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state != "Z":
            found.append(ProcessInfo(int(entry.name), int(parent), command))
    return found


def descendants(pid: int) -> list[ProcessInfo]:
    everything = processes()
    found, parents = [], {pid}
    while True:
        more = [p for p in everything if p.parent in parents and p not in found]
        if not more:
            return found
        found += more
        parents = {p.pid for p in more}


def environment(**extra: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MOONTIDE_", "NATS_", "OTEL_"))}
    return clean | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | extra


def moontide(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "services.cli", *arguments]


@dataclass
class Stack:
    process: subprocess.Popen[bytes]
    url: str
    data_dir: Path
    log: Path
    _clients: list[openai.OpenAI] = field(default_factory=list)

    def client(self) -> openai.OpenAI:
        """The `openai` client as people use it, but without its own retries: they would hide ours."""
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=90)
        self._clients.append(client)
        return client

    def close_clients(self) -> None:
        for client in self._clients:
            client.close()

    def model(self) -> str:
        """The one that is served; waited for, since a service that was killed or frozen is not listed for a while."""
        return wait_until(self._models, 20, "a model that is listed")[0]

    def _models(self) -> list[str]:
        return [model["id"] for model in requests.get(f"{self.url}/v1/models", timeout=10).json()["data"]]

    def pid(self, needle: str) -> int:
        """The pid of the one child whose command line contains ``needle``."""
        return wait_until(lambda: self._find(needle), 20, f"a running {needle}")

    def _find(self, needle: str) -> int | None:
        return next((p.pid for p in descendants(self.process.pid) if needle in p.command), None)

    def kill(self, needle: str) -> int:
        pid = self.pid(needle)
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_all(self, needle: str) -> None:
        """`kill -9` to every descendant that runs ``needle`` now, if any."""
        for found in descendants(self.process.pid):
            if needle in found.command:
                with suppress(ProcessLookupError):
                    os.kill(found.pid, signal.SIGKILL)

    def is_ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def answers(self) -> bool:
        """Whether a chat gets through right now: readiness is looked at now and then, and may be of a moment ago."""
        request = {"model": self.model(), "messages": [{"role": "user", "content": "ok"}], "max_tokens": 1}
        with suppress(requests.RequestException):
            return requests.post(f"{self.url}/v1/chat/completions", json=request, timeout=20).status_code == 200
        return False

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        reply = requests.get(f"{self.url}/v1/traces/{trace_id}", timeout=10)
        return reply.json() if reply.status_code == 200 else None

    def closed_trace(self, trace_id: str, seconds: float = 20) -> dict[str, Any]:
        def closed() -> dict[str, Any] | None:
            trace = self.trace(trace_id)
            spans = trace["spans"] if trace else []
            return trace if spans and all(span["end_unix_nanoseconds"] for span in spans) else None

        return wait_until(closed, seconds, f"a closed trace {trace_id}")

    def stop(self, seconds: float = 40) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


@contextmanager
def running(data_dir: Path, *arguments: str, **variables: str) -> Iterator[Stack]:
    """`moontide up` on a free port with a data directory of its own."""
    port = free_port()
    log = data_dir / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            moontide("up", "--port", str(port), "--data-dir", str(data_dir), *arguments),
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(**variables),
            cwd=ROOT,
        )
    stack = Stack(process, f"http://127.0.0.1:{port}", data_dir, log)
    try:
        wait_until(lambda: stack.is_ready() or process.poll() is not None, 60, "a ready stack")
        assert process.poll() is None, log.read_text()
        yield stack
    finally:
        stack.close_clients()
        if process.poll() is None:
            try:
                stack.stop()
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
