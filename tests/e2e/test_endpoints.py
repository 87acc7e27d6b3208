"""Several endpoints in one stack, on what the base install has: nothing here can import torch or safetensors."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.answers import streamed, whole
from tests.e2e.media import ask, draw_video
from tests.e2e.stack import ROOT, Stack, descendants, environment, moontide, running
from tests.e2e.test_upstream import endpoint, files_that_hold, in_thread
from tests.endpoints.perfect import KEY as PERFECT_KEY
from tests.endpoints.perfect import serving_perfect
from tests.endpoints.scripted import Script, ScriptedEndpoint

KEYS = ("sk-canary-one-0123456789abcdef", "sk-canary-two-fedcba9876543210")
MODELS = ("strong-model", "plain-model")
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("endpoints")


@pytest.fixture(scope="module")
def no_torch(folder: Path) -> dict[str, str]:
    """Variables of processes in which the packages of the extra ``local`` are not there."""
    for name in ("torch", "safetensors"):
        (folder / "blocked" / name).mkdir(parents=True)
        (folder / "blocked" / name / "__init__.py").write_text(f"raise ModuleNotFoundError('no {name} here')\n")
    return {"PYTHONPATH": f"{folder / 'blocked'}:{ROOT}"}


@pytest.fixture(scope="module")
def endpoints() -> Iterator[list[ScriptedEndpoint]]:
    """The second one takes images only, and its gateway is told what else it lacks."""
    scripts = (
        Script(key=KEYS[0], models=(MODELS[0],)),
        Script(key=KEYS[1], models=(MODELS[1], "another"), defects=frozenset(("refuses_video",))),
    )
    with ExitStack() as stack:
        yield [stack.enter_context(endpoint(script)) for script in scripts]


@pytest.fixture(scope="module")
def stack(folder: Path, no_torch: dict[str, str], endpoints: list[ScriptedEndpoint]) -> Iterator[Stack]:
    """Key files are named from where the table lies."""
    rows: list[dict[str, Any]] = [
        {"url": endpoints[0].url, "key_file": "one.key"},
        {"url": endpoints[1].url, "key_file": "two.key", "remote_model": MODELS[1], "max_frames": 4},
    ]
    rows[1]["lacks"] = ["tool_choice", "response_format"]
    (folder / "conf").mkdir()
    (folder / "data").mkdir()
    for key, name in zip(KEYS, ("one.key", "two.key"), strict=True):
        (folder / "conf" / name).write_text(f"{key}\n")
    table = folder / "conf" / "table.json"
    table.write_text(json.dumps(rows))
    with running(folder / "data", "--upstream-table", str(table), **no_torch) as running_stack:
        yield running_stack


def test_every_endpoint_answers_under_its_name(stack: Stack, endpoints: list[ScriptedEndpoint]) -> None:
    client = stack.client()
    assert {model.id for model in client.models.list()} == set(MODELS)
    for model, asked in zip(MODELS, endpoints, strict=True):
        before = len(asked.requests)
        request = {"model": model, "messages": ask(text="hello"), "temperature": 0.0, "seed": 1}
        answer = whole(client, **request)
        assert streamed(client, **request).content == answer.content
        assert "hello" in answer.content
        assert [body["model"] for body in asked.requests[before:]] == [model] * 2


def test_what_is_announced_is_passed_on(stack: Stack, endpoints: list[ScriptedEndpoint]) -> None:
    """The scripted endpoint calls and formats only what it was told to."""
    client = stack.client()
    reply = client.chat.completions.create(
        model=MODELS[0], messages=ask(text="hello"), tools=[CLOCK], tool_choice="required"
    )
    assert [call.function.name for call in reply.choices[0].message.tool_calls] == ["clock"]
    assert endpoints[0].requests[-1]["tool_choice"] == "required"
    reply = client.chat.completions.create(model=MODELS[0], messages=ask(text="hello"), response_format=FORMAT)
    assert json.loads(reply.choices[0].message.content) == {"ok": True}
    assert endpoints[0].requests[-1]["response_format"] == FORMAT


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"tools": [CLOCK], "tool_choice": "required"}, "tool_choice"), ({"response_format": FORMAT}, "response_format")],
)
def test_what_is_not_announced_is_refused_by_name(
    stack: Stack, endpoints: list[ScriptedEndpoint], fields: dict[str, Any], param: str
) -> None:
    before = len(endpoints[1].requests)
    with pytest.raises(openai.BadRequestError) as refused:
        stack.client().chat.completions.create(model=MODELS[1], messages=ask(text="hello"), **fields)
    assert (refused.value.param or "").startswith(param)
    assert param in refused.value.message
    assert len(endpoints[1].requests) == before, "nobody was asked"


def command(folder: Path, variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    told = environment(MOONTIDE_DATA_DIR=str(folder / "data"), **variables)
    return subprocess.run(
        moontide(*arguments), capture_output=True, text=True, timeout=90, env=told, cwd=ROOT, check=False
    )


def test_the_commands_need_no_torch(
    stack: Stack, folder: Path, no_torch: dict[str, str], endpoints: list[ScriptedEndpoint]
) -> None:
    clip, page = draw_video(folder / "clip.mp4", seconds=3), folder / "out.html"
    options = ("--ask", "What?", "--url", stack.url, "--model", MODELS[1], "--report", str(page), "--json")
    done = command(folder, no_torch, "analyze", str(clip), *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["media"]["sampled_frames"] == 4
    assert page.read_text().count('class="frame"') >= 3
    done = command(folder, no_torch, "verify", f"{stack.url}/v1", "--model", MODELS[0], "--only", "chat", "--json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["score"]["failed"] == 0


def test_no_key_is_in_arguments_variables_files_or_errors(stack: Stack, folder: Path, endpoints: Any) -> None:
    """Also when an endpoint refuses the key and echoes it."""
    errors = []
    for scripted in endpoints:
        right, scripted.script.key = scripted.script.key, "sk-other"
        try:
            with pytest.raises(openai.APIStatusError) as refused:
                whole(stack.client(), model=scripted.script.models[0], messages=ask(text="hello"))
            errors.append(f"{refused.value!r} {refused.value.body}")
        finally:
            scripted.script.key = right
    processes = [stack.process.pid, *(found.pid for found in descendants(stack.process.pid))]
    told = [Path(f"/proc/{pid}/{name}").read_bytes().decode() for pid in processes for name in ("cmdline", "environ")]
    for key in KEYS:
        assert not [text for text in (*told, *errors) if key in text]
        assert files_that_hold(key, folder / "data") == [], "logs, traces, blobs, streams"


def test_verify_finds_no_defect_in_ours_before_a_perfect_endpoint(
    tmp_path: Path, folder: Path, no_torch: dict[str, str]
) -> None:
    """Without key, so that there is none to refuse."""
    (tmp_path / "key").write_text(PERFECT_KEY)
    with in_thread(serving_perfect()) as perfect:
        options = ("--upstream", perfect.url, "--upstream-key-file", str(tmp_path / "key"))
        with running(tmp_path, *options, **no_torch) as ours:
            done = command(folder, no_torch, "verify", f"{ours.url}/v1", "--concurrency", "1,8", "--json")
    scorecard = json.loads(done.stdout)
    assert [check for check in scorecard["checks"] if check["status"] == "failed"] == []
    assert scorecard["score"]["passed"] > 40
    assert done.returncode == 0
