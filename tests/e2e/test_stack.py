"""A stack as a whole: alone in its world, gone when it stops, and closed to strangers."""

import os
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import requests

from tests.e2e.answers import whole
from tests.e2e.media import ask
from tests.e2e.stack import Stack, descendants, processes, running, wait_until


def _gone(pids: set[int]) -> bool:
    return not pids & {process.pid for process in processes()}


def test_two_stacks_do_not_see_each_other(stack: Stack, tmp_path: Path) -> None:
    with running(tmp_path) as other:
        client = other.client()
        file_id = client.files.create(file=("note.png", b"x"), purpose="user_data").id
        assert requests.get(f"{stack.url}/v1/files/{file_id}", timeout=10).status_code == 404
        answer = whole(client, model=other.model(), messages=ask(text="hi"), max_tokens=8)
        assert other.closed_trace(answer.trace_id)
        assert stack.trace(answer.trace_id) is None
        other.kill("services.tokenizer")
        assert whole(stack.client(), model=stack.model(), messages=ask(text="hi"), max_tokens=8).completion_tokens > 0
        children = {process.pid for process in descendants(other.process.pid)}
        assert other.stop() == 0
        wait_until(lambda: _gone(children), 5, "every child gone after a drain")


def test_nothing_is_left_behind_when_up_itself_is_killed(tmp_path: Path) -> None:
    with running(tmp_path) as stack:
        children = {process.pid for process in descendants(stack.process.pid)}
        assert len(children) >= 6
        os.kill(stack.process.pid, signal.SIGKILL)
        stack.process.wait(5)
        wait_until(lambda: _gone(children), 10, "every child gone after kill -9")


def test_the_broker_refuses_a_client_without_its_credentials(stack: Stack) -> None:
    variables = Path(f"/proc/{stack.pid('services.gateway')}/environ").read_bytes().split(b"\0")
    url = urlsplit(next(value.decode()[9:] for value in variables if value.startswith(b"NATS_URL=")))
    assert (url.hostname, url.username, url.password) == ("127.0.0.1", None, None)
    with socket.create_connection((url.hostname, url.port), timeout=5) as stranger:
        stranger.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        with stranger.makefile("rb") as lines:
            assert lines.readline().startswith(b"INFO")
            assert lines.readline().startswith(b"-ERR 'Authorization Violation'")
