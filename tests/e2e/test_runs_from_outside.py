"""Runs on a real stack with a scripted endpoint as the model: three ways in, watched from anywhere, stopped at once."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import requests

from tests.e2e.errands import ERRAND, FILE, MEND, NOTE, RIGHT, TEXT, WRONG, goal, serving
from tests.e2e.stack import ROOT, Stack, environment, moontide, running, wait_until
from tests.e2e.test_upstream import in_thread
from tests.endpoints.agent import MODEL, AgentEndpoint, Control
from tests.missions.plain import ASKED, ASKING, ENDLESS

ANSWER = f"The note says: {TEXT}"
REASONING = "I write a note.\n\nI begin.\n\nI read it again.\n\nDone."
ENDED = ("finished", "failed", "cancelled")

pytestmark = pytest.mark.timeout(180)


@dataclass
class Place:
    stack: Stack
    endpoint: AgentEndpoint
    model_url: str

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        reply = requests.post(f"{self.stack.url}/v1/runs{path}", json=body, timeout=30)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def begun(self, name: str, label: str, **body: Any) -> str:
        return self.post("", model=MODEL, goal=goal(name, label), **body)["id"]

    def get(self, run_id: str) -> dict[str, Any]:
        return requests.get(f"{self.stack.url}/v1/runs/{run_id}", timeout=30).json()

    def ended(self, run_id: str, seconds: float = 60) -> dict[str, Any]:
        return wait_until(lambda: run if (run := self.get(run_id))["status"] in ENDED else None, seconds, "its end")

    def in_state(self, run_id: str, status: str) -> dict[str, Any]:
        return wait_until(lambda: run if (run := self.get(run_id))["status"] == status else None, 60, status)

    def past(self, run_id: str) -> list[dict[str, Any]]:
        """What has happened so far."""
        return self.events(run_id, last=self.get(run_id)["last_event_id"])

    def events(self, run_id: str, after: str = "", limit: int = 10**6, last: str = "") -> list[dict[str, Any]]:
        """Those with a place; after ``limit`` of them, or behind ``last``, the connection is cut."""
        headers = {"Last-Event-ID": after} if after else {}
        found: list[dict[str, Any]] = []
        with requests.get(
            f"{self.stack.url}/v1/runs/{run_id}/events", headers=headers, stream=True, timeout=60
        ) as reply:
            for line in reply.iter_lines():
                if line.startswith(b"data: ") and b'"type":"run.delta"' not in line:
                    found.append(json.loads(line[6:]))
                    if len(found) == limit or found[-1]["id"] == last:
                        break
        return found

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            moontide(*arguments),
            capture_output=True,
            text=True,
            timeout=120,
            env=self.environment(),
            cwd=ROOT,
            check=False,
        )

    def environment(self) -> dict[str, str]:
        return environment(MOONTIDE_DATA_DIR=str(self.stack.data_dir))


@pytest.fixture(scope="module")
def place_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with (
        in_thread(serving()) as (url, endpoint),
        running(tmp_path_factory.mktemp("runs"), "--upstream", url) as stack,
    ):
        wait_until(lambda: f"{MODEL}-agent" in requests.get(f"{stack.url}/v1/models", timeout=10).text, 60, "an agent")
        wait_until(lambda: "tools ready" in stack.log.read_text(), 60, "tools")
        yield Place(stack, endpoint, url)


@pytest.fixture
def place(place_of_all: Place) -> Place:
    place_of_all.endpoint.control = Control()
    return place_of_all


@contextmanager
def started(variables: dict[str, str], *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The command in a process of its own, which does not outlive the block."""
    process = subprocess.Popen(
        moontide(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables, cwd=ROOT
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def ask(label: str) -> Any:
    return [{"role": "user", "content": goal(ERRAND, label)}]


def test_the_openai_client_gets_the_answer_of_a_run(place: Place) -> None:
    client = place.stack.client()
    whole: Any = client.chat.completions.create(model=f"{MODEL}-agent", messages=ask("whole"))
    assert whole.choices[0].message.content == ANSWER
    assert whole.choices[0].message.reasoning_content == REASONING
    assert whole.choices[0].finish_reason == "stop"
    assert [(one["tool"], one["status"]) for one in whole.choices[0].message.tool_activity] == [
        ("write_file", "finished"),
        ("list_files", "finished"),
        ("read_file", "finished"),
    ]
    run = place.get(whole.run_id)
    assert (run["status"], run["step"], run["answer"]["content"]) == ("finished", 3, ANSWER)
    assert run["usage"]["total_tokens"] == whole.usage.total_tokens
    chunks: list[Any] = list(
        client.chat.completions.create(model=f"{MODEL}-agent", messages=ask("streamed"), stream=True)
    )
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == ANSWER
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == REASONING
    activity = [one["tool"] for delta in deltas for one in getattr(delta, "tool_activity", None) or () if "tool" in one]
    assert activity == ["write_file", "list_files", "read_file"]


def test_events_resume_at_every_cut_and_files_are_there(place: Place) -> None:
    run_id = place.begun(ERRAND, "cuts")
    heard: list[dict[str, Any]] = []
    while not heard or heard[-1]["type"] != "run.ended":
        heard += place.events(run_id, heard[-1]["id"] if heard else "", limit=1 + len(heard) % 3)
    whole = place.events(run_id)
    assert heard == whole
    for cut in range(len(whole)):
        assert whole[: cut + 1] + place.events(run_id, whole[cut]["id"]) == whole
    answered = [event for event in whole if event["type"] == "tool.answered"]
    assert TEXT in answered[-1]["message"]["content"]
    listed = requests.get(f"{place.stack.url}/v1/runs/{run_id}/files", timeout=30).json()["data"]
    assert [file["name"] for file in listed] == [f"workspace/{NOTE}"]
    assert requests.get(place.stack.url + listed[0]["url"], timeout=30).text == TEXT


def test_the_command_runs_it_and_lists_it(place: Place) -> None:
    done = place.command("run", goal(ERRAND, "command"), "--json")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert (run["status"], run["answer"]["content"]) == ("finished", ANSWER)
    told = place.command("run", goal(ERRAND, "told"))
    assert told.returncode == 0, told.stderr
    for words in ("step 3", "I read it again.", "→ read_file  path=note.txt", "✓ read_file", ANSWER, "finished"):
        assert words in told.stdout
    listed = json.loads(place.command("runs", "--json", "--limit", "100").stdout)["runs"]
    assert run["id"] in [one["id"] for one in listed]
    cut = place.command("run", goal(ERRAND, "cut"), "--json", "--max-steps", "1")
    assert (cut.returncode, json.loads(cut.stdout)["error"]["code"]) == (1, "run.budget_steps")


def test_a_repository_ends_with_a_patch_that_applies(place: Place, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / FILE).write_text(f"{WRONG}\n")
    git = ["git", "-C", str(there), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", FILE], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    patch = tmp_path / "out.patch"
    done = place.command("run", goal(MEND, "mend"), "--repo", str(there), "--patch-out", str(patch), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (there / FILE).read_text() == f"{WRONG}\n", "the repository itself is left alone"
    subprocess.run([*git, "apply", str(patch)], check=True)
    assert (there / FILE).read_text() == f"{RIGHT}\n"


def test_watched_from_another_process_steered_and_stopped_within_a_second(place: Place) -> None:
    place.endpoint.control = Control(seconds=0.2)
    run_id = place.begun(ENDLESS, "endless")
    with started(place.environment(), "attach", run_id, "--json") as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["type"] == "run.accepted"
        assert place.command("steer", run_id, "Mind the tide.").returncode == 0
        heard: list[dict[str, Any]] = []
        for line in watching.stdout:
            heard.append(json.loads(line))
            if heard[-1]["type"] == "message.added":
                break
        assert heard[-1]["message"]["content"] == "Mind the tide."
        place.endpoint.control = Control(mode="hangs")
        wait_until(lambda: place.past(run_id)[-1]["type"] == "model.asked", 30, "a model call in flight")
        stopped_at = time.time()
        place.post(f"/{run_id}/stop", reason="enough")
        place.in_state(run_id, "cancelled")
        heard += [json.loads(line) for line in watching.stdout]
        assert (heard[-1]["type"], heard[-1]["outcome"]) == ("run.ended", "cancelled")
        assert heard[-1]["time_unix_seconds"] - stopped_at < 1.0
        assert watching.wait(30) == 1
    place.endpoint.control = Control()


def test_a_call_waits_for_a_person(place: Place) -> None:
    run_id = place.begun(ASKING, "asking", approvals=[ASKED], tools=[ASKED])
    waiting = place.in_state(run_id, "waiting")
    assert [one["tool"] for one in waiting["approvals"]] == [ASKED]
    first = waiting["approvals"][0]["call_id"]
    assert place.command("approve", run_id).returncode == 0
    second = wait_until(
        lambda: next((one["call_id"] for one in place.get(run_id)["approvals"] if one["call_id"] != first), None),
        60,
        "the next call",
    )
    place.post(f"/{run_id}/approvals/{second}", approved=False, note="Not now.")
    wait_until(
        lambda: [e for e in place.past(run_id) if e["type"] == "tool.answered" and e["call_id"] == second], 60, "no"
    )
    assert place.command("stop", run_id).returncode == 0
    place.ended(run_id)
    decided = {e["call_id"]: e["approved"] for e in place.events(run_id) if e["type"] == "tool.decided"}
    assert (decided[first], decided[second]) == (True, False)


def test_a_fork_goes_on_from_a_step(place: Place) -> None:
    run_id = place.begun(ERRAND, "origin")
    place.ended(run_id)
    told = place.command("fork", run_id, "--step", "1", "--json")
    assert told.returncode == 0, told.stderr
    fork = json.loads(told.stdout)
    ended = place.ended(fork["id"])
    assert (ended["status"], ended["answer"]["content"]) == ("finished", ANSWER)
    assert ended["forked_from"] == {"run_id": run_id, "step": 1}
    asked = [event["step"] for event in place.events(fork["id"]) if event["type"] == "model.asked"]
    assert asked == [2, 3], "what the origin did is not done again"


def test_a_dead_gateway_and_a_dead_coordinator_cost_a_reader_nothing(place: Place) -> None:
    place.endpoint.control = Control(seconds=0.3)
    run_id = place.begun(ERRAND, "deaths")
    heard = place.events(run_id, limit=3)
    place.stack.kill("services.coordinator")
    place.stack.kill("services.gateway")
    end = time.monotonic() + 90
    while heard[-1]["type"] != "run.ended" and time.monotonic() < end:
        with suppress(requests.RequestException):
            heard += place.events(run_id, heard[-1]["id"])
    assert heard == place.events(run_id)
    assert heard[-1]["outcome"] == "finished"
    assert place.get(run_id)["answer"]["content"] == ANSWER


def test_a_client_that_goes_away_leaves_its_run_or_stops_it(place: Place) -> None:
    place.endpoint.control = Control(seconds=0.5)
    ids = {}
    for stop in (True, False):
        with openai.OpenAI(base_url=f"{place.stack.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
            stream: Any = client.chat.completions.create(
                model=f"{MODEL}-agent",
                messages=ask(f"gone-{stop}"),
                stream=True,
                extra_body={"stop_on_disconnect": stop},
            )
            ids[stop] = next(iter(stream)).run_id
            stream.close()
    assert place.ended(ids[True])["status"] == "cancelled"
    assert place.ended(ids[False])["answer"]["content"] == ANSWER


def test_a_stack_of_its_own_stops_what_it_began(place: Place, tmp_path: Path) -> None:
    """Ctrl-C on a run whose stack goes with the command."""
    place.endpoint.control = Control(seconds=0.2)
    words = ("run", goal(ENDLESS, "own"), "--upstream", place.model_url)
    with started(environment(MOONTIDE_DATA_DIR=str(tmp_path)), *words) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "step 2" in line:
                break
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "the run was stopped" in said
