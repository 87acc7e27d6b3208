"""``python -m tests.fuzz.api``: requests drawn from the gateway's own OpenAPI description; the last line is JSON.

Promises that are judged: no 5xx and no hang; every answer fits the description; what the description forbids is not
accepted; a refusal of a chat names a field; who has no key, a revoked one, a suspended tenant or no quota left hears
that and nothing else. Without ``--url`` a gateway runs here, with a scripted model on the seeded
fake bus; ``--break`` plants a defect there, which must be found.
"""

import argparse
import asyncio
import collections
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote

import aiohttp
import jsonschema

from schemas import codec, names
from schemas.failure import Failure
from schemas.telemetry import UsageListed
from services.gateway import chat_handlers, chat_rules, error_body, models
from services.gateway.json_body import decode_body
from services.gateway.keys import Keys
from shared.bus.fake import FakeBroker
from shared.keys import KeyEntry, Quota, TenantEntry, key_hash, render_line
from tests.endpoints.scripted_coordinator import ScriptedCoordinator, coordinating
from tests.endpoints.scripted_model import MODEL, served
from tests.fuzz.bodies import TEXTS, Bodies
from tests.fuzz.description import EVENTS, Description

RUNS = "/v1/runs"
BODIES_SHARE = 0.9
"""Of requests with a JSON body; the rest goes to all other operations."""
WORDLESS = frozenset({"malformed_json", "body_too_large"})
"""Codes of refusals that are not about one field."""
SHOWN = 20
BOUNDARY = "b0undary"

HELLO = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}
SEARCH = {"type": "builtin_function", "function": {"name": "$web_search"}}
ASKED = {"role": "assistant", "content": None, "reasoning_content": "", "tool_calls": [CALL]}
SCHEMA = {"name": "n", "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}
GOOD: dict[str, list[Any]] = {
    "model": [MODEL, f"{MODEL}-instant", "default"],
    "messages": [
        [HELLO],
        [HELLO, ASKED, {"role": "tool", "tool_call_id": "c1", "content": "21"}],
        [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        [HELLO, {"role": "assistant", "content": "Once", "partial": True}],
    ],
    "tools": [[TOOL], [SEARCH], [TOOL, SEARCH]],
    "tool_choice": ["auto", "required", {"type": "function", "function": {"name": "get_weather"}}],
    "response_format": [{"type": "json_object"}, {"type": "json_schema", "json_schema": SCHEMA}],
    "stop": ["a", ["b", "c"]],
}
OF_RUNS: dict[str, list[Any]] = {
    "model": [MODEL, f"{MODEL}-agent"],
    "goal": ["Count the files.", [{"type": "text", "text": "hi"}]],
    "content": ["Rather in French.", [{"type": "text", "text": "hi"}]],
    "messages": [[HELLO], [HELLO, ASKED, {"role": "tool", "tool_call_id": "c1", "content": "21"}]],
    "tools": [["python"], ["python", "shell"], []],
    "approvals": [["python"]],
    "files": [[], [{"file_id": "file-0", "path": "a/b"}]],
    "budget": [{"max_steps": 3}, {"max_seconds": 0.5, "max_cost_usd": 1}],
    "step": [0, 1, 2],
}


@dataclass(frozen=True)
class Sender:
    """Who a request comes from. ``refused``: the status of everything that needs a key; None where the key is good."""

    authorization: str = ""
    refused: int | None = None
    weight: int = 1


@dataclass
class Report:
    seed: int
    cases: int = 0
    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    codes: collections.Counter[str] = field(default_factory=collections.Counter)
    failures: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0

    def line(self, seconds: float) -> str:
        counted = {str(status): count for status, count in sorted(self.statuses.items())}
        shown = self.failures[:SHOWN]
        figures = {"cases": self.cases, "failures": len(self.failures), "statuses": counted, "shown": shown}
        figures |= {"codes": dict(self.codes.most_common())}
        return json.dumps(
            {
                "fuzz": "api",
                "seed": self.seed,
                **figures,
                "slowest_s": round(self.slowest_seconds, 3),
                "s": round(seconds, 1),
            }
        )


class Fuzzer:
    """Sends one request after the other on each of ``at_once`` lines."""

    def __init__(
        self,
        url: str,
        http: aiohttp.ClientSession,
        description: Description,
        seed: int,
        hang: float,
        senders: Sequence[Sender],
    ) -> None:
        self._url = url
        self._senders = senders
        self._http = http
        self._description = description
        self._hang_seconds = hang
        self._draw = random.Random(seed)
        with_bodies = [(m, path) for m, path in description.operations() if description.body_schema(m, path)]
        self._bodies = {
            place: Bodies(description.body_schema(*place) or {}, self._draw, OF_RUNS if RUNS in place[1] else GOOD)
            for place in sorted(with_bodies)
        }
        self._runs = ["run-" + "2" * 26]
        self._others = sorted(set(description.operations()) - set(with_bodies))
        self.report = Report(seed)

    async def run(self, cases: int, at_once: int) -> None:
        left = iter(range(cases))
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(self._line(left))

    async def _line(self, left: Iterator[int]) -> None:
        for _ in left:
            if self._draw.random() < BODIES_SHARE:
                place = self._draw.choice(list(self._bodies))
                await self._case(*place, self._filled(place[1]), self._bodies[place].body())
            else:
                method, path = self._draw.choice(self._others)
                await self._case(method, path, self._filled(path), self._form() if method == "POST" else b"")

    def _filled(self, path: str) -> str:
        digest = self._draw.choice(("0" * 64, "f" * 63, "x"))
        values = {"id": self._draw.choice((*TEXTS, MODEL)), "manifest": f"sha256/{digest}", "position": "0"}
        if RUNS in path and self._draw.random() < 0.7:
            values["id"] = self._draw.choice(self._runs[-100:])
        values |= {"event": self._draw.choice(("1", "2", "2.1", "x")), "call_id": self._draw.choice(TEXTS)}
        values["name"] = self._draw.choice(("outputs/a", "workspace/a", "events/1/0/a", *TEXTS))
        for name, value in values.items():
            path = path.replace(f"{{{name}}}", quote(value, safe="/", errors="replace"))
        return path + self._draw.choice(
            ("", "?purpose=video", "?purpose=%00", "?a=b&a=c", "?limit=3&after=2", "?status=x")
        )

    def _form(self) -> bytes:
        """An upload, or nearly one."""
        pieces = []
        for _ in range(self._draw.choice((0, 1, 2, 2, 3))):
            name = self._draw.choice(("purpose", "file", 'file"; filename="a.png', "other"))
            value = self._draw.choice(("video", "user_data", *TEXTS))
            head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
            pieces.append(f"{head}{value}\r\n".encode(errors="replace"))
        whole = b"".join([*pieces, f"--{BOUNDARY}--\r\n".encode()])
        return whole[: self._draw.choice((len(whole), len(whole), len(whole) // 2))]

    async def _case(self, method: str, path: str, target: str, data: bytes) -> None:
        self.report.cases += 1
        (sender,) = self._draw.choices(self._senders, [sender.weight for sender in self._senders])
        headers = {"Traceparent": self._draw.choice(("", "00-x", f"00-{'1' * 32}-{'2' * 16}-01"))}
        if (method, path) not in self._bodies and method == "POST":
            headers["Content-Type"] = f"multipart/form-data; boundary={self._draw.choice((BOUNDARY, 'other'))}"
        if sender.authorization:
            headers["Authorization"] = sender.authorization
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._hang_seconds):
                async with self._http.request(method, self._url + target, data=data, headers=headers) as response:
                    answer, status, kind = await response.read(), response.status, response.content_type
                    wait = response.headers.get("Retry-After")
        except TimeoutError:
            self._failed("hang", method, target, data)
            return
        except aiohttp.ClientError as error:
            self._failed(f"connection: {error!r}", method, target, data)
            return
        self.report.slowest_seconds = max(self.report.slowest_seconds, time.monotonic() - started)
        self.report.statuses[status] += 1
        for problem in self._problems(method, path, status, kind, data, answer):
            self._failed(f"{problem} | {answer[:300]!r}", method, target, data)
        expected = None if self._description.is_open(method, path) else sender.refused
        refused_by_quota = status == 429 and method == "POST"
        if expected == 429 and method == "POST" and not (refused_by_quota and wait):
            self._failed(f"status {status}, Retry-After {wait}, where no quota is left", method, target, data)
        if (expected in (401, 403)) != (status in (401, 403)) or (expected in (401, 403) and status != expected):
            self._failed(f"status {status} for a sender of {expected}", method, target, data)

    def _problems(self, method: str, path: str, status: int, kind: str, data: bytes, answer: bytes) -> Iterator[str]:
        if status >= 500:
            yield f"status {status}"
        try:
            if kind == EVENTS:
                self._check_events(path, answer)
            else:
                self._description.check(method, path, status, answer)
        except (jsonschema.ValidationError, ValueError) as error:
            yield f"not as described: {str(error)[:200]}"
        if status == 200 and not self._allowed(method, path, data):
            yield "accepted what the description forbids"
        if status == 200 and (method, path) == ("POST", RUNS):
            self._runs.append(json.loads(answer)["id"])
        if status == 400 and (method, path) in self._bodies:
            yield from self._unnamed(data, answer)

    def _check_events(self, path: str, answer: bytes) -> None:
        if path.startswith(RUNS):
            for line in answer.splitlines():
                if line.startswith(b"data: "):
                    self._description.check_event(path, line.removeprefix(b"data: "), "GET")
            return
        events = [event.removeprefix(b"data: ") for event in answer.split(b"\n\n") if event.startswith(b"data: ")]
        if events[-1:] != [b"[DONE]"]:
            raise ValueError("the stream does not end with [DONE]")
        for event in events[:-1]:
            self._description.check_event(path, event)

    def _allowed(self, method: str, path: str, data: bytes) -> bool:
        if (method, path) not in self._bodies:
            return True
        if not data and not self._description.needs_body(method, path):
            return True
        try:
            body = json.loads(data.decode(), parse_constant=_no_json)
        except ValueError:
            return False
        return self._description.accepts(method, path, body)

    def _unnamed(self, data: bytes, answer: bytes) -> Iterator[str]:
        error = json.loads(answer)["error"]
        self.report.codes[error["code"]] += 1
        if error["code"] in WORDLESS or not data.startswith(b"{"):
            return
        if not error["param"]:
            yield "a refusal that names no field"
        elif error["param"] not in error["message"]:
            yield "the message does not say the field"

    def _failed(self, what: str, method: str, target: str, data: bytes) -> None:
        self.report.failures.append(f"{what} | {method} {target[:200]} {data[:1000]!r}")


def _no_json(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


GOOD_KEY, REVOKED, SUSPENDED, USED_UP = (f"mt-{letter * 43}" for letter in "abcd")
SENDERS = (
    Sender(f"Bearer {GOOD_KEY}", weight=30),
    Sender(refused=401),
    Sender("Bearer mt-wrong", refused=401),
    Sender("Bearer \udcff", refused=401),
    Sender(f"Bearer {REVOKED}", refused=401),
    Sender(f"Bearer {SUSPENDED}", refused=403),
    Sender(f"Bearer {USED_UP}", refused=429),
)
"""Of ``own_gateway``."""


def _keys() -> bytes:
    def entry(number: int, key: str, tenant: str, **fields: Any) -> KeyEntry:
        return KeyEntry(key_id=f"key-{number}", tenant=tenant, hash=key_hash(key), **fields)

    entries = (
        entry(1, GOOD_KEY, "good"),
        entry(2, REVOKED, "good", disabled=True),
        entry(3, SUSPENDED, "suspended"),
        entry(4, USED_UP, "good", quota=Quota(requests_per_minute=0)),
        TenantEntry(tenant="suspended", suspended=True),
    )
    return b"\n".join(render_line(entry) for entry in entries)


@asynccontextmanager
async def own_gateway(seed: int) -> AsyncIterator[str]:
    broker = FakeBroker(seed=seed)
    answers = {names.SUBJECT_TRACE_GET: _no_trace, names.SUBJECT_USAGE_GET: _no_usage}
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        keys.write_bytes(_keys())
        async with (
            broker.bus("recorder").offer(names.SERVICE_RECORDER, answers, version="1", metadata={}),
            served(broker.bus("tokenizer"), broker.bus("gateway"), Path(folder), keys_file=keys) as (url, model),
            coordinating(broker.bus("coordinator"), model.blobs, on_submit=_done_at_once),
        ):
            yield url


async def _no_usage(data: bytes) -> bytes:
    return codec.encode(UsageListed(rows=()))


async def _no_trace(data: bytes) -> bytes:
    return codec.encode(Failure(code="trace.not_found", message="no such trace", status=404, param="id"))


async def _done_at_once(coordinator: ScriptedCoordinator, run_id: str) -> None:
    await coordinator.answer(run_id, "Done.")


def _crash(given: tuple[str, ...]) -> None:
    raise KeyError(given)


async def _wait_for_unknown(self: Any, name: str) -> Any:
    if name in GOOD["model"]:
        return await _resolve(self, name)
    return await asyncio.Event().wait()


def _without_unknown(data: bytes, kind: Any, *, prefix: str = "") -> Any:
    known = set(getattr(kind, "__struct_fields__", ()))
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if known and isinstance(value, dict):
        data = json.dumps({name: item for name, item in value.items() if name in known}).encode()
    return decode_body(data, kind, prefix=prefix)


def _nameless(failure: Any) -> Any:
    body = _error_body(failure)
    return error_body.ErrorBody(
        error=error_body.ErrorDetail(type=body.error.type, message=body.error.message, code=body.error.code)
    )


_resolve = models.ModelDirectory.resolve
_error_body = error_body.error_body

DEFECTS: dict[str, tuple[Any, str, Any]] = {
    "crash": (chat_rules, "_check_stops", _crash),
    "hang": (models.ModelDirectory, "resolve", _wait_for_unknown),
    "lenient": (chat_rules, "decode_body", _without_unknown),
    "nameless": (error_body, "error_body", _nameless),
    "open": (Keys, "_check_usable", lambda self, entry: None),
    "shape": (chat_handlers, "completion", lambda *_: {"id": "x", "choices": []}),
}
"""What ``--break`` can plant: (where, what, by what it is replaced)."""


@contextmanager
def broken(defect: str | None) -> Iterator[None]:
    if defect is None:
        yield
        return
    place, name, replacement = DEFECTS[defect]
    with patch.object(place, name, replacement):
        yield


async def fuzz(
    seed: int,
    cases: int,
    *,
    url: str | None = None,
    key: str = "",
    defect: str | None = None,
    at_once: int = 8,
    hang: float = 10.0,
) -> Report:
    async with AsyncExitStack() as stack:
        stack.enter_context(broken(defect))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        base = url or await stack.enter_async_context(own_gateway(seed))
        async with http.get(f"{base}/openapi.json") as response:
            description = Description(await response.json())
        senders = SENDERS if url is None else (Sender(f"Bearer {key}" if key else ""),)
        fuzzer = Fuzzer(base, http, description, seed, hang, senders)
        await fuzzer.run(cases, at_once)
        return fuzzer.report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--url", default=None)
    parser.add_argument("--key-file", type=Path, default=None, help="holds an API key for --url")
    parser.add_argument("--break", dest="defect", choices=sorted(DEFECTS), default=None)
    given = parser.parse_args()
    started = time.monotonic()
    key = given.key_file.read_text().strip() if given.key_file else ""
    report = asyncio.run(fuzz(given.seed, given.cases, url=given.url, key=key, defect=given.defect))
    for failure in report.failures[:SHOWN]:
        print(failure, file=sys.stderr)
    print(report.line(time.monotonic() - started))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
