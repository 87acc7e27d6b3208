"""Arguments, exit codes, and the small commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.__main__ import run
from services.cli.terminal import printable
from tests.unit.cli.scripted_gateway import TRACE_ID, ScriptedGateway

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["analyze", "a.mp4"],
        ["analyze", "--ask", "What?"],
        ["analyze", "a.mp4", "--ask", "What?", "--max-tokens", "0"],
        ["up", "--port", "70000"],
        ["up", "--port", "0"],
        ["trace", "../../etc"],
        ["checkpoint"],
        ["checkpoint", "init"],
    ],
)
def test_bad_use_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert "usage: moontide" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["analyze", "chat", "up", "trace", "verify", "doctor"])
def test_every_command_has_help_and_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert "--json" in capsys.readouterr().out


def test_doctor_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    found = {check["name"]: check for check in report["checks"]}
    assert code == (0 if report["ok"] else 1)
    wanted = {"Python", "aiohttp", "torch", "nats-server", "sandbox", "data directory", "free disk", "memory"}
    assert wanted <= set(found)
    assert found["aiohttp"]["ok"]
    assert "nats-server" in found["nats-server"]["found"]


def test_doctor_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MOONTIDE_DATA_DIR", str(tmp_path / "file" / "data"))
    assert run(["doctor"]) == 1
    told = capsys.readouterr().out
    assert "MISSING  data directory" in told
    assert "MOONTIDE_DATA_DIR" in told


def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["analyze", "a.mp4", "--ask", "What?", "--checkpoint", str(tmp_path)])
    assert code == 1
    assert "is not a checkpoint directory" in capsys.readouterr().err


def test_an_unknown_trace_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trace", TRACE_ID]) == 1
    assert f"nobody knows {TRACE_ID}" in capsys.readouterr().err


def test_a_trace_that_the_gateway_does_not_know_is_a_failure(gateway: ScriptedGateway) -> None:
    assert run(["trace", "other", "--url", gateway.url]) == 1


def test_chat_works_from_a_pipe(
    gateway: ScriptedGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n")
    reader, writer = os.pipe()
    os.write(writer, f"Hello\n/image {image}\nAnd this?\n/quit\nnever asked\n".encode())
    os.close(writer)
    with os.fdopen(reader) as piped:
        monkeypatch.setattr(sys, "stdin", piped)
        assert run(["chat", "--url", gateway.url]) == 0
    assert capsys.readouterr().out == "It moves.\nA ball bounces.\n" * 2
    second = gateway.requests[1]["messages"]
    assert len(gateway.requests) == 2
    assert [message["role"] for message in second] == ["user", "assistant", "user"]
    assert second[1]["content"] == "A ball bounces."
    assert [part["type"] for part in second[2]["content"]] == ["image_url", "text"]


def test_chat_reads_a_file_and_answers_in_json(
    gateway: ScriptedGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "questions").write_text("One\n/image missing.png\nTwo")
    with (tmp_path / "questions").open() as questions:
        monkeypatch.setattr(sys, "stdin", questions)
        assert run(["chat", "--url", gateway.url, "--json"]) == 1
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["input"] for answer in answers] == ["One", "Two"]


def test_an_answer_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\r\nc\td\x9b") == "a[2Jb\nc\td"


def test_the_command_does_not_import_torch() -> None:
    program = "import sys, services.cli.__main__ as m; m.parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
