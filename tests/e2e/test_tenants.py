"""Two tenants on a real stack: walls, quotas as the openai client meets them, keys that come, go and lie nowhere."""

import asyncio
import base64
import json
import secrets
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
import requests
from aiohttp import web

from schemas import codec, names
from schemas.events import CloudEvent
from services.cli.topology import Layout
from shared.bus.broker import Broker
from shared.bus.connection import connect
from tests.e2e.media import draw_image, draw_video
from tests.e2e.stack import ROOT, Stack, descendants, environment, moontide, running, wait_until
from tests.e2e.test_upstream import files_that_hold, in_thread
from tests.endpoints.agent import AgentEndpoint, Control, application
from tests.endpoints.conversation import Conversation, Scripts, Turn
from tests.isolation import Things, Walk, routes_of
from tests.missions.pier import call

CLIENT_KEY = "mt-a-persons-own-key"
UNCOUNTED = ("POST", "/v1/tokenizers/estimate-token-count")
"""An endpoint elsewhere does not count tokens."""


def asking(seed: int) -> Any:
    """Writes a file, then asks again and again for what a person has to allow."""

    def turn(conversation: Conversation) -> Turn:
        if conversation.step == 1:
            return Turn("First a file.", calls=(call("write_file", path="a", content="text"),))
        return Turn("May I?", calls=(call("list_files"),))

    return turn


@asynccontextmanager
async def serving(log: Path) -> AsyncIterator[tuple[str, AgentEndpoint]]:
    endpoint = AgentEndpoint(Scripts({"asking": asking}), log, Control())
    runner = web.AppRunner(application(endpoint), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", endpoint
    finally:
        await runner.cleanup()


@dataclass
class Town:
    stack: Stack
    endpoint: AgentEndpoint
    endpoint_log: Path
    keys_file: Path
    model: str

    def keys(self, *arguments: str) -> dict[str, Any]:
        """`moontide keys …` beside the running stack."""
        done = subprocess.run(
            moontide("keys", *arguments, "--keys-file", str(self.keys_file), "--json"),
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
            cwd=ROOT,
            check=True,
        )
        return json.loads(done.stdout)

    def person(self, tenant: str, *limits: str) -> dict[str, Any]:
        """A new key that the gateway has taken."""
        made = self.keys("add", "--tenant", tenant, *limits)
        wait_until(lambda: self.get("/v1/models", made["key"]).status_code == 200, 20, "a gateway that knows the key")
        return made

    def endpoint_requests(self) -> list[str]:
        """One line for each request that came."""
        return self.endpoint_log.read_text().splitlines() if self.endpoint_log.exists() else []

    def get(self, path: str, key: str) -> requests.Response:
        return requests.get(self.stack.url + path, headers={"Authorization": f"Bearer {key}"}, timeout=30)

    def post(self, path: str, key: str, **body: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {key}"}
        return requests.post(self.stack.url + path, headers=headers, timeout=90, **body)

    def client(self, key: str, retries: int = 0) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.stack.url}/v1", api_key=key, max_retries=retries, timeout=60)

    def chat(self, key: str, content: Any = "hi", retries: int = 0, **fields: Any) -> dict[str, Any]:
        with self.client(key, retries) as client:
            messages: Any = [{"role": "user", "content": content}]
            return client.chat.completions.create(model=self.model, messages=messages, **fields).model_dump()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder, keys_file = tmp_path_factory.mktemp("town"), tmp_path_factory.mktemp("keys") / "keys.jsonl"
    log = keys_file.with_name("endpoint.jsonl")
    made = json.loads(
        subprocess.run(
            moontide("keys", "add", "--tenant", "first", "--keys-file", str(keys_file), "--json"),
            capture_output=True,
            timeout=60,
            env=environment(),
            cwd=ROOT,
            check=True,
        ).stdout
    )
    with (
        in_thread(serving(log)) as (url, endpoint),
        running(folder, "--upstream", url, "--keys-file", str(keys_file), MOONTIDE_CLIENT_KEY=CLIENT_KEY) as stack,
    ):
        town = Town(stack, endpoint, log, keys_file, "")
        town.model = town.get("/v1/models", made["key"]).json()["data"][0]["id"]
        yield town


def upload(town: Town, key: str, name: str, data: bytes, purpose: str) -> str:
    form = {"files": {"file": (name, data)}, "data": {"purpose": purpose}}
    return town.post("/v1/files", key, **form).json()["id"]


def first_event(town: Town, run_id: str, key: str) -> str:
    url, headers = f"{town.stack.url}/v1/runs/{run_id}/events", {"Authorization": f"Bearer {key}"}
    with requests.get(url, headers=headers, stream=True, timeout=30) as response:
        return next(line[4:].decode() for line in response.iter_lines() if line.startswith(b"id: "))


def things_of(town: Town, key: str, folder: Path) -> Things:
    """An image, a finished chat about a video with its trace, and a run that waits for an approval."""
    image = upload(town, key, "a.png", draw_image(), "image")
    video = base64.b64encode(draw_video(folder / "clip.mp4", seconds=1).read_bytes()).decode()
    part = {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{video}"}}
    answer = town.chat(key, [part, {"type": "text", "text": "What is it?"}])
    body = {"model": town.model, "goal": "[mission asking 1 walk] Work.", "approvals": ["list_files"]}
    run_id = town.post("/v1/runs", key, json=body).json()["id"]

    def waiting() -> dict[str, Any] | None:
        run = town.get(f"/v1/runs/{run_id}", key).json()
        assert run["status"] not in ("failed", "finished"), run
        return run if run["approvals"] else None

    run = wait_until(waiting, 60, "a run that waits")
    trace_id = answer["moontide"]["trace_id"]
    wait_until(lambda: town.get(f"/v1/traces/{trace_id}", key).status_code == 200, 20, "a trace")
    return Things(
        file_id=image,
        manifest=answer["moontide"]["media"][0]["manifest"],
        trace_id=trace_id,
        request_id=answer["id"],
        run_id=run_id,
        call_id=run["approvals"][0]["call_id"],
        event_id=first_event(town, run_id, key),
        model=town.model,
    )


def nobodys(model: str) -> Things:
    run_id = f"run-{'2' * 26}"
    return Things(
        file_id=f"file-{secrets.token_hex(12)}",
        manifest=f"sha256/{secrets.token_hex(32)}",
        trace_id=secrets.token_hex(16),
        request_id=f"chatcmpl-{secrets.token_hex(16)}",
        run_id=run_id,
        call_id=f"{run_id}-1-0",
        event_id="1",
        model=model,
    )


@pytest.mark.timeout(240)
def test_two_tenants_at_every_route(town: Town, tmp_path: Path) -> None:
    alice, bob = town.person("acme"), town.person("other")
    hers = things_of(town, alice["key"], tmp_path)
    description = requests.get(f"{town.stack.url}/openapi.json", timeout=10).json()

    async def walk() -> None:
        async with aiohttp.ClientSession() as http:
            walk = Walk(
                http, town.stack.url, alice=alice["key"], bob=bob["key"], hers=hers, nobodys=nobodys(town.model)
            )
            await walk.walk(routes_of(description) - {UNCOUNTED})

    asyncio.run(walk())
    wait_until(
        lambda: town.get(f"/v1/runs/{hers.run_id}", alice["key"]).json()["status"] == "cancelled", 20, "a stopped run"
    )


def test_a_quota_as_the_client_meets_it(town: Town) -> None:
    limited = town.person("acme", "--requests-per-minute", "2")
    for _ in range(2):
        town.chat(limited["key"])
    with pytest.raises(openai.RateLimitError) as caught:
        town.chat(limited["key"])
    headers = caught.value.response.headers
    assert 1 <= int(headers["Retry-After"]) <= 61
    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("2", "0")
    assert caught.value.body["type"] == "rate_limit_reached_error"  # type: ignore[index]


def test_the_client_waits_as_it_is_told(town: Town) -> None:
    """The second one is refused, hears a second, and is answered then."""
    limited = town.person("acme", "--concurrent-requests", "1")
    town.endpoint.control.seconds = 1.0
    try:
        with ThreadPoolExecutor(2) as pool:
            started = time.monotonic()
            answers = list(pool.map(lambda retries: town.chat(limited["key"], retries=retries), (5, 5)))
    finally:
        town.endpoint.control.seconds = 0.0
    assert all(answer["choices"][0]["message"]["content"] for answer in answers)
    assert time.monotonic() - started > 2.0


def test_tokens_of_a_day_outlive_a_killed_gateway(town: Town) -> None:
    limited = town.person("daily", "--tokens-per-day", "100")

    def charged() -> int:
        return sum(row["total_tokens"] for row in town.get("/v1/usage", limited["key"]).json()["data"])

    def ask_until(limit: int, used: int) -> int:
        while used < limit:
            used += town.chat(limited["key"], max_tokens=20)["usage"]["total_tokens"]
        return used

    used = ask_until(60, 0)
    wait_until(lambda: charged() == used, 20, "usage at the recorder")
    town.stack.kill("services.gateway")
    wait_until(town.stack.is_ready, 60, "a gateway that is back")
    with pytest.raises(openai.RateLimitError) as caught:
        ask_until(120, used)  # it would admit 100 more if it knew nothing
    assert caught.value.body["code"] == "quota.tokens_per_day"  # type: ignore[index]
    assert int(caught.value.response.headers["Retry-After"]) <= 86_400


def events(town: Town) -> list[CloudEvent]:
    """Everything on the events log of the stack."""

    async def read() -> list[CloudEvent]:
        layout = Layout(next((town.stack.data_dir / "stacks").glob("port-*")))
        async with connect(Broker.running(layout.broker), "test") as bus:
            page = await bus.read_log(names.STREAM_EVENTS, names.EVENTS_ALL, limit=1000)
            return [codec.decode_json(message.data, CloudEvent) for message in page]

    return asyncio.run(read())


@pytest.mark.timeout(180)
def test_what_a_killed_gateway_held_ends_once_and_is_seen(town: Town) -> None:
    """The sweeper writes the record that the gateway could not; its tenant sees a trace whose root is lost."""
    alice, bob = town.person("acme"), town.person("other")
    known = {event.subject for event in events(town)}
    asked = len(town.endpoint_requests())
    town.endpoint.control.seconds = 60.0
    try:
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(town.chat, alice["key"])
            wait_until(lambda: len(town.endpoint_requests()) > asked, 20, "a chat at the endpoint")
            (request_id,) = {event.subject for event in events(town)} - known
            town.stack.kill("services.gateway")
            with pytest.raises(openai.APIConnectionError):
                answer.result()
    finally:
        town.endpoint.control.seconds = 0.0
    wait_until(town.stack.is_ready, 60, "a gateway that is back")

    def terminals() -> list[CloudEvent]:
        return [event for event in events(town) if event.subject == request_id and "accepted" not in event.type]

    (record,) = wait_until(terminals, 60, "a terminal record")
    assert record.type == "dev.moontide.request.failed"
    assert record.data.failure is not None
    assert record.data.failure.code == "request.lost"

    def closed() -> list[dict[str, Any]] | None:
        spans = town.get(f"/v1/traces/{request_id}", alice["key"]).json().get("spans", [])
        return spans if len(spans) > 2 and all(span["end_unix_nanoseconds"] for span in spans) else None

    spans = wait_until(closed, 30, "a closed trace")
    (root,) = [span for span in spans if not span["parent_span_id"]]
    assert (root["service"], root["status"]) == ("gateway", "lost")
    assert {span["service"] for span in spans} == {"gateway", "upstream"}
    assert {span["status"] for span in spans if span["service"] == "upstream"} <= {"cancelled", "error"}
    assert town.get(f"/v1/traces/{request_id}", bob["key"]).status_code == 404
    assert len(terminals()) == 1


def test_a_revoked_key_opens_nothing_within_seconds(town: Town) -> None:
    made = town.person("acme")
    assert town.keys("revoke", made["key_id"])["disabled"] is True
    wait_until(lambda: town.get("/v1/models", made["key"]).status_code == 401, 10, "a revoked key")
    with pytest.raises(openai.AuthenticationError):
        town.chat(made["key"])


def test_commands_ask_with_the_key_of_the_environment(town: Town, tmp_path: Path) -> None:
    made = town.person("acme")
    answer = town.chat(made["key"])
    wait_until(lambda: town.get(f"/v1/traces/{answer['id']}", made["key"]).status_code == 200, 20, "a trace")
    (tmp_path / "key").write_text(made["key"])
    for variables, code in (({"MOONTIDE_CLIENT_KEY_FILE": str(tmp_path / "key")}, 0), ({}, 1)):
        done = subprocess.run(
            moontide("trace", answer["id"], "--url", town.stack.url, "--json"),
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(**variables),
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert made["key"] not in done.stdout + done.stderr


def test_keys_lie_nowhere(town: Town) -> None:
    """Blobs, traces, logs, streams of the broker, and what is said of the keys themselves."""
    made = town.person("acme")
    answer = town.chat(made["key"], content="A secret word: canary-0815.")
    wait_until(lambda: town.get(f"/v1/traces/{answer['id']}", made["key"]).status_code == 200, 20, "a trace")
    town.post("/v1/chat/completions", made["key"], json={"model": "none", "messages": []})
    assert files_that_hold(made["key_id"], town.stack.data_dir) != [], "the search finds what is there"
    assert files_that_hold(made["key"], town.stack.data_dir) == []
    assert made["key"] not in town.keys_file.read_text() + json.dumps(town.keys("list"))
    environments = [Path(f"/proc/{child.pid}/environ").read_bytes() for child in descendants(town.stack.process.pid)]
    assert len(environments) > 5
    assert not any(CLIENT_KEY.encode() in found for found in environments), "a person's own key is nobody's business"
