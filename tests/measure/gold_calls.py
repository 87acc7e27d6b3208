"""``python -m tests.measure.gold_calls DIRECTORY``: gold answers of a public function-calling benchmark as a model's
output, through the whole path.

Input: the data folder of the Berkeley Function-Calling Leaderboard (its questions, and the answers that it accepts).
Each accepted answer is said by a stand-in engine in Kimi's token text, behind a real tokenizer, and by an
OpenAI-compatible endpoint, behind a real upstream; both behind a real gateway and broker, streamed and whole. What an
OpenAI client gets must be exactly those calls. Shows progress; last line one JSON object; exit code 1 below 100 %.
"""

import argparse
import asyncio
import json
import logging
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
from aiohttp import web

from services.gateway.app import app as gateway
from services.gateway.config import GatewayConfig
from services.tokenizer.app import app as tokenizer
from services.tokenizer.config import TokenizerConfig
from services.upstream.app import app as upstream
from services.upstream.config import UpstreamConfig
from shared.blobs.store import BlobStore
from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.clock import SystemClock
from shared.language.vocabulary import load_vocabulary
from shared.service import Process
from shared.telemetry.tracing import Telemetry
from tests.endpoints.agent import MODEL, AgentEndpoint, Control, application
from tests.endpoints.conversation import Call, Conversation, Scripts, Turn
from tests.endpoints.token_model import TokenModel, answering
from tests.unit.tokenizer.stack import write_checkpoint

CATEGORIES = (
    "simple_python", "multiple", "parallel", "parallel_multiple",
    "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple",
)  # fmt: skip
TYPES = {"dict": "object", "float": "number", "tuple": "array", "list": "array", "any": None, "": None}
"""The benchmark's own words for JSON Schema's types; None: every type will do."""
LOCAL = "gold-local"
AT_ONCE = 8
CONTEXT = 65_536


@dataclass(frozen=True)
class Case:
    id: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    calls: tuple[tuple[str, dict[str, Any]], ...]

    @property
    def parallel(self) -> bool:
        return len(self.calls) > 1

    @property
    def fits(self) -> bool:
        """Whether the accepted answer is one by the question's own schemas: not all are."""
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in self.tools}
        return all(jsonschema.Draft202012Validator(schemas[name]).is_valid(value) for name, value in self.calls)


def cases(directory: Path, categories: Iterable[str] = CATEGORIES) -> Iterator[Case]:
    for category in categories:
        file = f"BFCL_v4_{category}.json"
        answers = {row["id"]: row["ground_truth"] for row in _rows(directory / "possible_answer" / file)}
        for row in _rows(directory / file):
            yield case(row, answers[row["id"]])


def case(row: dict[str, Any], truth: list[dict[str, Any]]) -> Case:
    """One question with the answer that it accepts first."""
    functions = [_function(function) for function in row["function"]]
    schemas = {function["name"]: function["parameters"] for function in functions}
    calls = [(_name(name), wanted) for call in truth for name, wanted in call.items()]
    return Case(
        id=row["id"],
        messages=row["question"][0],
        tools=[{"type": "function", "function": function} for function in functions],
        calls=tuple((name, _arguments(wanted, schemas[name])) for name, wanted in calls),
    )


def _rows(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def _name(name: str) -> str:
    """OpenAI's names have no dots; the benchmark itself replaces them like this."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def _function(function: dict[str, Any]) -> dict[str, Any]:
    parameters = _schema(function["parameters"])
    return {"name": _name(function["name"]), "description": function["description"], "parameters": parameters}


def _schema(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _schema(value) for key, value in schema.items()}
    kind = found.get("type")
    if isinstance(kind, str):
        kind = TYPES.get(kind, kind)
        found |= {"type": kind}
        if kind is None:
            del found["type"]
    if found.get("type") == "array" and not any(isinstance(value, list) for value in found.get("enum", [[]])):
        found["items"] = found.get("items", {}) | {"enum": found.pop("enum")}  # meant of the elements
    return found


def _arguments(wanted: dict[str, Any], schema: Any) -> dict[str, Any]:
    """Of each argument the first accepted value; an empty text among optional ones says that it may be left out."""
    required = schema.get("required", ())
    properties = schema.get("properties", {})
    named = {name: values for name, values in wanted.items() if "" not in values or name in required}
    return {name: _value(values, properties.get(name, {})) for name, values in named.items()}


def _value(values: Sequence[Any], schema: Any) -> Any:
    """The first accepted value that the schema takes, or just the first."""
    if not isinstance(values, list) or not values:
        return values
    plain = [_plain(value, schema) for value in values]
    return next((value for value in plain if jsonschema.Draft202012Validator(schema).is_valid(value)), plain[0])


def _plain(value: Any, schema: Any) -> Any:
    """Objects hold lists of accepted values too."""
    if isinstance(value, dict) and all(isinstance(inner, list) for inner in value.values()):
        return _arguments(value, schema if isinstance(schema, dict) else {})
    if isinstance(value, list) and value and all(isinstance(inner, dict) for inner in value):
        return [_plain(inner, schema.get("items", {})) for inner in value]
    return value


@dataclass(frozen=True)
class Gold:
    """The script: a case's calls, whatever else was said."""

    known: dict[str, Case]

    def __call__(self, conversation: Conversation) -> Turn:
        mission = conversation.mission
        assert mission is not None
        calls = self.known[mission.label].calls
        spoken = tuple(Call(name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in calls)
        return Turn(reasoning="These functions answer it.", calls=spoken)


@asynccontextmanager
async def stack(folder: Path, script: Gold) -> AsyncIterator[str]:
    """Broker, gateway, and behind it both models: the URL."""
    scripts = Scripts({"gold": lambda seed: script})
    broker = Broker.prepare(folder / "broker")
    await broker.start()
    blobs = BlobStore.open((folder / "blobs").as_uri())
    checkpoint = write_checkpoint(folder / LOCAL, context=CONTEXT)
    try:
        async with AsyncExitStack() as open_:
            url = await open_.enter_async_context(_endpoint(AgentEndpoint(scripts, None, Control())))
            process = [await open_.enter_async_context(_process(name, broker, blobs)) for name in "etug"]
            model = TokenModel(load_vocabulary(checkpoint), scripts, blobs)
            await open_.enter_async_context(answering(process[0].bus, model, LOCAL))
            await open_.enter_async_context(tokenizer(TokenizerConfig(checkpoint_dir=checkpoint), process[1]))
            await open_.enter_async_context(upstream(UpstreamConfig(url=url, tools_streaming="always"), process[2]))
            port = await open_.enter_async_context(gateway(GatewayConfig(port=0, drain_seconds=0.2), process[3]))
            yield f"http://127.0.0.1:{port}"
    finally:
        await broker.stop()


@asynccontextmanager
async def _process(name: str, broker: Broker, blobs: BlobStore) -> AsyncIterator[Process]:
    async with connect(broker.config, name) as bus:
        telemetry = Telemetry(service=name, instance=bus.instance, bus=bus)
        yield Process(name=name, bus=bus, blobs=blobs, telemetry=telemetry, clock=SystemClock())


@asynccontextmanager
async def _endpoint(endpoint: AgentEndpoint) -> AsyncIterator[str]:
    runner = web.AppRunner(application(endpoint), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@dataclass
class Client:
    session: aiohttp.ClientSession
    url: str

    async def problem(self, one: Case, model: str, *, stream: bool) -> str | None:
        """What differs from the gold answer; None: nothing."""
        mark = {"role": "system", "content": f"[mission gold 0 {one.id}]"}
        user = {"role": "user", "content": mark["content"]}  # the mark is found in what a user says
        body = {"model": model, "messages": [user, *one.messages], "tools": one.tools, "stream": stream}
        async with self.session.post(f"{self.url}/v1/chat/completions", json=body) as reply:
            text = await reply.text()
            if reply.status != 200:
                return f"HTTP {reply.status} {text[:300]}"
        calls, reason = _streamed(text) if stream else _whole(text)
        if reason != "tool_calls":
            return f"finish reason {reason}"
        said = tuple((name, json.loads(arguments)) for name, arguments in calls)
        return None if said == one.calls else f"{said} instead of {one.calls}"


def _whole(text: str) -> tuple[list[tuple[str, str]], str]:
    choice = json.loads(text)["choices"][0]
    functions = [call["function"] for call in choice["message"].get("tool_calls") or ()]
    return [(function["name"], function["arguments"]) for function in functions], choice["finish_reason"]


def _streamed(text: str) -> tuple[list[tuple[str, str]], str]:
    parts: dict[int, list[str]] = {}
    reason = ""
    for line in text.splitlines():
        if not line.startswith("data: {"):
            continue
        for choice in json.loads(line[6:])["choices"]:
            reason = choice.get("finish_reason") or reason
            for call in choice["delta"].get("tool_calls") or ():
                pair = parts.setdefault(call["index"], ["", ""])
                pair[0] += call["function"].get("name") or ""
                pair[1] += call["function"].get("arguments") or ""
    return [(name, arguments) for name, arguments in parts.values()], reason


async def replay(found: list[Case], folder: Path) -> dict[str, Any]:
    """Every case through both models, streamed and whole by turns. What is no answer by the question's own schemas
    goes through the tokenizer alone: upstream refuses such calls, as it should."""
    started, problems, done = time.monotonic(), list[str](), 0
    pairs = [(one, model) for model in (LOCAL, MODEL) for one in found if model == LOCAL or one.fits]
    room = asyncio.Semaphore(AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=60)
    async with stack(folder, Gold({one.id: one for one in found})) as url, aiohttp.ClientSession(timeout=timeout) as s:
        client = Client(s, url)

        async def ask(number: int, one: Case, model: str) -> None:
            nonlocal done
            async with room:
                problem = await client.problem(one, model, stream=number % 2 == 0)
            if problem is not None:
                problems.append(f"{model} {one.id}: {problem}")
            done += 1
            if done % 500 == 0:
                print(f"{done} of {len(pairs)}, {len(problems)} not as they should be", flush=True)

        await asyncio.gather(*(ask(number, *pair) for number, pair in enumerate(pairs)))
    return {
        "cases": len(found),
        "parallel": sum(one.parallel for one in found),
        "replayed": done,
        "passed": done - len(problems),
        "breaking_their_own_schema": [one.id for one in found if not one.fits],
        "seconds": round(time.monotonic() - started, 1),
        "problems": problems[:10],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.gold_calls")
    parser.add_argument("directory", type=Path, help="bfcl_eval/data of the package bfcl-eval")
    parser.add_argument("--cases", type=int, default=0, help="only so many of each category")
    parsed = parser.parse_args()
    found = list(cases(parsed.directory))
    logging.disable(logging.WARNING)  # foreign schemas hold words that are none, and ends are ends here
    if parsed.cases:
        found = found[:: max(1, len(found) // parsed.cases)]
    with tempfile.TemporaryDirectory(prefix="moontide-gold-") as folder:
        result = asyncio.run(replay(found, Path(folder)))
    print(json.dumps(result))
    return 0 if result["passed"] == result["replayed"] else 1


if __name__ == "__main__":
    sys.exit(main())
