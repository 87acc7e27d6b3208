"""`moontide run` and what goes with it, against a real gateway and a scripted coordinator."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas import codec
from schemas.blobs import BlobRef
from schemas.chat import Message, TextPart, ToolCall, Usage
from schemas.failure import Failure
from schemas.runs import (
    DecideTool,
    ModelAnswered,
    ModelAsked,
    PauseRun,
    ResumeRun,
    RunEnded,
    RunWaiting,
    SteerRun,
    StopRun,
    ToolAnswered,
    ToolAsked,
)
from schemas.tools import ToolFile
from services.cli.__main__ import run
from services.cli.narration import arguments_in_short, duration
from tests.endpoints.scripted_coordinator import ScriptedCoordinator
from tests.unit.cli.runs_gateway import RunsGateway, runs_gateway

ROOT = Path(__file__).parents[3]
USAGE = Usage(prompt_tokens=10, completion_tokens=5)
NOBODY = "run-" + "2" * 26
PATCH = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-1\n+2\n"


async def worked(coordinator: ScriptedCoordinator, run_id: str) -> None:
    blobs, call_id = coordinator.blobs, f"{run_id}-1-0"
    call = ToolCall(id="shell:0", name="shell", arguments='{"command": "ls -l"}')
    first = await coordinator.say("", reasoning="I look first.", tool_calls=(call,))
    await coordinator.append(run_id, ModelAsked(step=1, message_count=1))
    await coordinator.whisper(run_id, reasoning="I look ")
    answered = ModelAnswered(step=1, message=first, usage=USAGE, finish_reason="tool_calls", tool_calls=1)
    arguments = await blobs.put(call.arguments.encode())
    asked = ToolAsked(step=1, call_id=call_id, tool_call_id=call.id, tool="shell", arguments=arguments)
    await coordinator.append(run_id, answered, asked)
    result = Message(role="tool", content=(TextPart(text="total 0\x1b[31m"),), tool_call_id=call.id)
    done = ToolAnswered(step=1, call_id=call_id, message=await blobs.put(codec.encode(result)), seconds=0.5)
    await coordinator.append(run_id, done, ModelAsked(step=2, message_count=3))
    final = await coordinator.say("There is nothing.")
    patch = ToolFile(name="changes.patch", media_type="text/x-diff", content=await blobs.put(PATCH.encode()))
    await coordinator.append(
        run_id,
        ModelAnswered(step=2, message=final, usage=USAGE, finish_reason="stop"),
        RunEnded(outcome="finished", answer=final, files=(patch,)),
    )


async def failed(coordinator: ScriptedCoordinator, run_id: str) -> None:
    failure = Failure(code="run.budget_steps", message="all 2 steps are used", status=409)
    await coordinator.append(run_id, RunEnded(outcome="failed", failure=failure))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[RunsGateway]:
    with runs_gateway(tmp_path) as made:
        yield made


def command(place: RunsGateway, *arguments: str) -> int:
    return run([*arguments, "--url", place.url])


def begun(place: RunsGateway, capsys: pytest.CaptureFixture[str], goal: str = "Look around.") -> str:
    assert command(place, "run", goal, "--detach", "--json") == 0
    return json.loads(capsys.readouterr().out)["id"]


def test_a_run_is_told_step_by_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with runs_gateway(tmp_path, on_submit=worked) as place:
        assert command(place, "run", "Look around.") == 0
    told = capsys.readouterr().out
    for words in ("step 1", "I look first.", "→ shell  command=ls -l", "✓ shell  0.5 s  total 0", "step 2"):
        assert words in told
    assert told.count("I look first.") == 1, "what was told live is not told again"
    assert "step 2 of 4000 · 30 tokens" in told
    assert told.rstrip().endswith("finished")
    assert "\x1b[31m" not in told, "a tool cannot steer the terminal"


def test_a_run_as_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with runs_gateway(tmp_path, on_submit=worked) as place:
        assert command(place, "run", "Look around.", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert (told["status"], told["answer"]["content"], told["usage"]["total_tokens"]) == (
        *("finished", "There is nothing."),
        30,
    )


def test_a_run_that_fails_ends_with_1_and_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with runs_gateway(tmp_path, on_submit=failed) as place:
        assert command(place, "run", "Look around.") == 1
        assert "all 2 steps are used (run.budget_steps)" in capsys.readouterr().out
        assert command(place, "run", "Look around.", "--json") == 1
        assert json.loads(capsys.readouterr().out)["error"]["code"] == "run.budget_steps"


def test_what_is_asked_for_arrives(place: RunsGateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "a.csv").write_text("1,2\n")
    (tmp_path / "b.txt").write_text("b")
    options = ["--tools", "python,shell", "--approve", "shell", "--max-steps", "7", "--max-cost", "1.5", "--seed", "3"]
    options += ["--file", str(folder), "--file", str(tmp_path / "b.txt"), "--no-thinking", "--context", "summary"]
    assert command(place, "run", "Look around.", "--detach", *options) == 0
    run_id, attach = capsys.readouterr().out.splitlines()
    assert attach == f"moontide attach {run_id}"
    spec = place.coordinator.submitted[0].spec
    assert (spec.tools, spec.approvals, spec.context_strategy) == (("python", "shell"), ("shell",), "summary")
    assert (spec.budget.max_steps, spec.budget.max_cost_usd, spec.sampling.seed) == (7, 1.5, 3)
    assert not spec.thinking
    assert [file.path for file in spec.files] == ["data/in/a.csv", "b.txt"]


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def repository(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "x").write_text("1\n")
    git(folder, "add", "x")
    git(folder, "commit", "-q", "-m", "one")
    return folder


def test_a_repository_travels_as_a_bundle_and_comes_back_as_a_patch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, out = repository(tmp_path / "there"), tmp_path / "out.patch"
    with runs_gateway(tmp_path, on_submit=worked) as place:
        assert command(place, "run", "Make it 2.", "--repo", str(there), "--patch-out", str(out)) == 0
        assert out.read_text() == PATCH
        assert PATCH not in capsys.readouterr().out
        assert command(place, "run", "Make it 2.", "--repo", str(there)) == 0
        assert PATCH in capsys.readouterr().out
        assert command(place, "run", "Make it 2.", "--repo", str(there), "--json") == 0
        assert json.loads(capsys.readouterr().out)["patch"] == PATCH
        bundle = place.coordinator.submitted[0].spec.repository
        assert isinstance(bundle, BlobRef)
        (tmp_path / "b.bundle").write_bytes(place.do(place.coordinator.blobs.get(bundle)))
    git(tmp_path, "clone", "-q", "b.bundle", "clone")
    assert (tmp_path / "clone" / "x").read_text() == "1\n"
    git(there, "apply", "--check", str(out))


@pytest.mark.parametrize("options", [["--repo", "."], ["--file", "missing"]])
def test_what_cannot_go_along_is_said(
    place: RunsGateway, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flag, value = options
    assert command(place, "run", "x", flag, str(tmp_path / value)) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert place.coordinator.submitted == []


def test_a_swarm_is_refused_in_words(place: RunsGateway, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(place, "run", "x", "--kind", "swarm") == 1
    assert "'swarm' is not here yet" in capsys.readouterr().err


def test_runs_are_listed(place: RunsGateway, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = begun(place, capsys, "The first."), begun(place, capsys, "[b]2[/b]")
    place.do(place.coordinator.answer(first, "Done."))
    assert command(place, "runs") == 0
    told = capsys.readouterr().out
    assert first in told
    assert "[b]2[/b]" in told, "markup of others is text"
    assert command(place, "runs", "--status", "finished", "--json") == 0
    listed = json.loads(capsys.readouterr().out)["runs"]
    assert [one["id"] for one in listed] == [first]
    assert command(place, "runs", "--limit", "1", "--json") == 0
    assert [one["id"] for one in json.loads(capsys.readouterr().out)["runs"]] == [second]


def test_attach_tells_the_past_then_what_happens(place: RunsGateway, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = begun(place, capsys)
    with watcher(place, run_id, "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["type"] == "run.accepted"
        place.do(worked(place.coordinator, run_id))
        types = [json.loads(line)["type"] for line in process.stdout]
        assert (types[-1], process.wait(20)) == ("run.ended", 0)
    assert "run.delta" not in types
    assert command(place, "attach", run_id) == 0
    assert "There is nothing." in capsys.readouterr().out


def watcher(place: RunsGateway, run_id: str, *options: str) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOONTIDE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "services.cli", "attach", run_id, "--url", place.url, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )


def test_ctrl_c_leaves_the_run_alone(place: RunsGateway, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = begun(place, capsys)
    with watcher(place, run_id, "--json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert f"detached, the run goes on: moontide attach {run_id}" in said
    assert place.coordinator.commands == []


def test_what_is_said_to_a_run_is_stored(place: RunsGateway, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = begun(place, capsys)
    assert command(place, "steer", run_id, "Rather in French.", "--interrupt") == 0
    assert command(place, "pause", run_id, "--reason", "lunch") == 0
    assert command(place, "resume", run_id) == 0
    capsys.readouterr()
    assert command(place, "stop", run_id, "--json") == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == run_id
    steer, *others = [stored.body for stored in place.coordinator.commands]
    assert isinstance(steer, SteerRun)
    assert steer.interrupt
    assert others == [PauseRun(reason="lunch"), ResumeRun(), StopRun()]
    place.do(place.coordinator.answer(run_id, "Done.", step=2))
    assert command(place, "fork", run_id, "--step", "1", "--goal", "In French.", "--json") == 0
    assert json.loads(capsys.readouterr().out)["forked_from"] == {"run_id": run_id, "step": 1}


def test_a_call_is_approved_by_its_short_name_or_when_it_is_the_only_one(
    place: RunsGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = begun(place, capsys)

    async def wait(*numbers: int) -> None:
        arguments = await place.coordinator.blobs.put(b"{}")
        for number in numbers:
            call_id = f"{run_id}-1-{number}"
            asked: dict[str, Any] = {"call_id": call_id, "tool_call_id": f"s:{number}", "tool": "shell"}
            await place.coordinator.append(run_id, ToolAsked(step=1, arguments=arguments, needs_approval=True, **asked))
        await place.coordinator.append(
            run_id, RunWaiting(failure=Failure(code="run.approval", message="?", status=409))
        )

    assert command(place, "approve", run_id) == 1
    assert "no call" in capsys.readouterr().err
    place.do(wait(0))
    assert command(place, "approve", run_id) == 0
    place.do(wait(1))
    assert command(place, "approve", run_id) == 1
    assert "name one: 1-0 (shell), 1-1 (shell)" in capsys.readouterr().err
    assert command(place, "approve", run_id, "1-1", "--deny", "--note", "Never.") == 0
    assert [stored.body for stored in place.coordinator.commands] == [
        DecideTool(call_id=f"{run_id}-1-0", approved=True),
        DecideTool(call_id=f"{run_id}-1-1", approved=False, note="Never."),
    ]


@pytest.mark.parametrize("words", [["attach"], ["steer", "x"], ["stop"], ["pause"], ["resume"], ["approve"]])
def test_a_run_that_nobody_knows_is_a_failure(
    place: RunsGateway, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(place, words[0], NOBODY, *words[1:]) == 1
    assert f"nobody knows {NOBODY}" in capsys.readouterr().err


def test_without_a_stack_it_is_said_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOONTIDE_DATA_DIR", str(tmp_path))
    for words in (["runs"], ["attach", NOBODY]):
        assert run(words) == 1
        assert "moontide up" in capsys.readouterr().err
    assert run(["run", "x", "--detach"]) == 1
    assert "moontide up" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "x", "--max-steps", "0"],
        ["run", "x", "--tools", "a,,b"],
        ["run", "x", "--max-cost", "-1"],
        ["run", "x", "--context", "forget"],
        ["attach", "../../etc"],
        ["steer", NOBODY],
        ["fork", NOBODY],
        ["runs", "--limit", "1000"],
    ],
)
def test_bad_use_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert "usage: moontide" in capsys.readouterr().err


def test_arguments_and_times_are_short() -> None:
    assert arguments_in_short('{"path": "a b", "depth": 2, "x": [1]}') == "path=a b  depth=2  x=[1]"
    assert arguments_in_short("not json") == "not json"
    assert len(arguments_in_short(json.dumps({"code": "x" * 1000}))) < 120
    assert [duration(seconds) for seconds in (0, 59, 90, 43200, 90_000)] == ["0 s", "59 s", "1.5 min", "12 h", "1.04 d"]
