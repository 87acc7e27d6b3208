"""Two tenants at every route of a gateway: what belongs to one is, to the other, what nobody has.

Input: a gateway's URL and its routes, what the first tenant has, both keys. Output: nothing, or an AssertionError that
names the route. A route without a verdict fails the walk: whoever adds one says here what the other tenant may hear.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import aiohttp

Route = tuple[str, str]


@dataclass(frozen=True)
class Things:
    """Ids of what somebody has; or of what nobody has, in the same form."""

    file_id: str
    manifest: str
    trace_id: str
    request_id: str
    run_id: str
    call_id: str
    event_id: str
    """Not secret: a place in a ledger."""
    model: str
    """Not secret."""

    def secrets(self) -> list[str]:
        shared = ("event_id", "model")
        return [getattr(self, field.name) for field in fields(self) if field.name not in shared]


@dataclass(frozen=True)
class Ask:
    """One request. ``path`` stands in for the route's own where that has parameters."""

    path: str
    body: Any = None
    stream: bool = False
    """Of what its owner hears only the first bytes are read."""


Kind = Literal["open", "common", "list", "theirs", "last"]
"""open: needs no key, and says nothing of anybody. common: the same for all with a key. list: holds the asker's own.
theirs: names something that somebody has. last: the same, and afterwards it is gone or changed."""


@dataclass(frozen=True)
class Verdict:
    kind: Kind
    asks: Callable[[Things], Iterable[Ask]]


def _asked_about(things: Things) -> list[dict[str, Any]]:
    """Bodies with a file of somebody, in each of the ways that a chat can name one."""
    parts: tuple[dict[str, Any], ...] = (
        {"type": "image_url", "image_url": f"ms://{things.file_id}"},
        {"type": "image_url", "image_url": {"url": things.file_id}},
        {"type": "file", "file": {"file_id": things.file_id}},
    )
    return [{"model": things.model, "messages": [{"role": "user", "content": [part]}]} for part in parts]


def _chats(things: Things) -> Iterable[Ask]:
    for body in _asked_about(things):
        yield Ask("/v1/chat/completions", body)
        agent = {"model": f"{things.model}-agent", "stream": True, "budget": {"max_steps": 1}}
        yield Ask("/v1/chat/completions", body | agent, stream=True)


def _counts(things: Things) -> Iterable[Ask]:
    for body in _asked_about(things):
        yield Ask("/v1/tokenizers/estimate-token-count", body)


def _followed(things: Things) -> Iterable[Ask]:
    yield Ask(f"/v1/runs/{things.run_id}/events", stream=True)
    yield Ask(f"/v1/runs/{things.run_id}/events?after={things.event_id}", stream=True)


def _runs(things: Things) -> Iterable[Ask]:
    run = {"model": things.model, "goal": "Count.", "budget": {"max_steps": 1}}
    yield Ask("/v1/runs", run | {"files": [{"file_id": things.file_id, "path": "a"}]})
    yield Ask("/v1/runs", run | {"repository": things.file_id})
    yield Ask("/v1/runs", run | {"goal": [{"type": "image_url", "image_url": f"ms://{things.file_id}"}]})


def _at(*paths: str, **body: Any) -> Callable[[Things], Iterable[Ask]]:
    return lambda things: [Ask(path.format(**vars(things)), body or None) for path in paths]


VERDICTS: Mapping[Route, Verdict] = {
    ("GET", "/livez"): Verdict("open", _at("/livez")),
    ("GET", "/readyz"): Verdict("open", _at("/readyz")),
    ("GET", "/openapi.json"): Verdict("open", _at("/openapi.json")),
    ("GET", "/v1/models"): Verdict("common", _at("/v1/models")),
    ("GET", "/v1/models/{id}"): Verdict("common", _at("/v1/models/{model}")),
    ("POST", "/v1/chat/completions"): Verdict("theirs", _chats),
    ("POST", "/v1/tokenizers/estimate-token-count"): Verdict("theirs", _counts),
    ("POST", "/v1/files"): Verdict("common", lambda things: [Ask("/v1/files", aiohttp.FormData)]),
    ("GET", "/v1/files"): Verdict("list", _at("/v1/files", "/v1/files?purpose=image")),
    ("GET", "/v1/files/{id}"): Verdict("theirs", _at("/v1/files/{file_id}")),
    ("GET", "/v1/files/{id}/content"): Verdict("theirs", _at("/v1/files/{file_id}/content")),
    ("DELETE", "/v1/files/{id}"): Verdict("last", _at("/v1/files/{file_id}")),
    ("GET", "/v1/media/{manifest}"): Verdict("theirs", _at("/v1/media/{manifest}")),
    ("GET", "/v1/media/{manifest}/frames/{position}.jpg"): Verdict("theirs", _at("/v1/media/{manifest}/frames/0.jpg")),
    ("GET", "/v1/media/{manifest}/contact-sheet.jpg"): Verdict("theirs", _at("/v1/media/{manifest}/contact-sheet.jpg")),
    ("GET", "/v1/traces/{id}"): Verdict(
        "theirs", _at("/v1/traces/{trace_id}", "/v1/traces/{request_id}", "/v1/traces/{run_id}")
    ),
    ("GET", "/v1/usage"): Verdict("list", _at("/v1/usage")),
    ("POST", "/v1/runs"): Verdict("theirs", _runs),
    ("GET", "/v1/runs"): Verdict("list", _at("/v1/runs", f"/v1/runs?after=run-{'z' * 26}&limit=100")),
    ("GET", "/v1/runs/{id}"): Verdict("theirs", _at("/v1/runs/{run_id}")),
    ("GET", "/v1/runs/{id}/events"): Verdict("theirs", _followed),
    ("GET", "/v1/runs/{id}/events/{event}"): Verdict("theirs", _at("/v1/runs/{run_id}/events/{event_id}")),
    ("GET", "/v1/runs/{id}/files"): Verdict("theirs", _at("/v1/runs/{run_id}/files")),
    ("GET", "/v1/runs/{id}/files/{name}"): Verdict("theirs", _at("/v1/runs/{run_id}/files/workspace/a")),
    ("POST", "/v1/runs/{id}/messages"): Verdict("last", _at("/v1/runs/{run_id}/messages", content="Stop.")),
    ("POST", "/v1/runs/{id}/pause"): Verdict("last", _at("/v1/runs/{run_id}/pause", reason="x")),
    ("POST", "/v1/runs/{id}/resume"): Verdict("last", _at("/v1/runs/{run_id}/resume", reason="x")),
    ("POST", "/v1/runs/{id}/approvals/{call_id}"): Verdict(
        "last", _at("/v1/runs/{run_id}/approvals/{call_id}", approved=True)
    ),
    ("POST", "/v1/runs/{id}/fork"): Verdict("last", _at("/v1/runs/{run_id}/fork", step=0)),
    ("POST", "/v1/runs/{id}/stop"): Verdict("last", _at("/v1/runs/{run_id}/stop", reason="x")),
}


@dataclass(frozen=True)
class Answer:
    status: int
    kind: str
    body: bytes

    def without(self, things: Things) -> tuple[int, str, bytes]:
        """What is left of it once it cannot be told whose ids were asked for."""
        body = self.body
        for secret in things.secrets():
            body = body.replace(secret.encode(), b"ID")
        return self.status, self.kind, body


class Walk:
    """``alice`` has ``hers``; ``bob`` is of another tenant; ``nobodys`` are ids that were never given."""

    def __init__(
        self, http: aiohttp.ClientSession, url: str, *, alice: str, bob: str, hers: Things, nobodys: Things
    ) -> None:
        self._http = http
        self._url = url
        self._alice = alice
        self._bob = bob
        self._hers = hers
        self._nobodys = nobodys

    async def walk(self, routes: Iterable[Route]) -> None:
        served = set(routes)
        assert not served - VERDICTS.keys(), f"no verdict on {sorted(served - VERDICTS.keys())}"
        for route in sorted(served):
            await self._without_a_key(route)
            await self._as_bob(route)
        for last in (False, True):
            for route in sorted(served):
                if (VERDICTS[route].kind == "last") is last:
                    await self._as_alice(route)

    async def _without_a_key(self, route: Route) -> None:
        verdict = VERDICTS[route]
        for ask in verdict.asks(self._hers):
            for key in (None, "mt-unknown", self._alice[:-1]):
                answer = await self._send(route, ask, key)
                if verdict.kind == "open":
                    assert answer.status == 200, (route, answer)
                    self._says_nothing(route, answer)
                else:
                    assert answer.status == 401, (route, answer)

    async def _as_bob(self, route: Route) -> None:
        verdict = VERDICTS[route]
        for ask, unknown in zip(verdict.asks(self._hers), verdict.asks(self._nobodys), strict=True):
            answer = await self._send(route, ask, self._bob)
            if verdict.kind in ("theirs", "last"):
                other = await self._send(route, unknown, self._bob)
                assert answer.status in (400, 404), (route, ask, answer)
                assert answer.without(self._hers) == other.without(self._nobodys), (route, ask, answer, other)
            else:
                assert answer.status == 200, (route, answer)
                self._says_nothing(route, answer)

    async def _as_alice(self, route: Route) -> None:
        verdict = VERDICTS[route]
        for ask in verdict.asks(self._hers):
            answer = await self._send(route, ask, self._alice)
            assert answer.status == 200, (route, ask, answer)
            if verdict.kind == "list" and route[1] != "/v1/usage":
                assert any(secret.encode() in answer.body for secret in self._hers.secrets()), (route, answer)

    def _says_nothing(self, route: Route, answer: Answer) -> None:
        for secret in self._hers.secrets():
            assert secret.encode() not in answer.body, (route, answer)

    async def _send(self, route: Route, ask: Ask, key: str | None) -> Answer:
        headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
        body: dict[str, Any] = {"data": _upload()} if ask.body is aiohttp.FormData else {"json": ask.body}
        async with self._http.request(route[0], self._url + ask.path, headers=headers, **body) as response:
            stream = ask.stream and response.status == 200
            data = await response.content.readany() if stream else await response.read()
            return Answer(response.status, response.content_type, data)


def _upload() -> aiohttp.FormData:
    form = aiohttp.FormData()
    form.add_field("purpose", "image")
    form.add_field("file", b"\x89PNG", filename="a.png")
    return form


def routes_of(description: Mapping[str, Any]) -> set[Route]:
    """What an OpenAPI document describes."""
    return {(method.upper(), path) for path, methods in description["paths"].items() for method in methods}


def error_of(answer: Answer) -> dict[str, Any]:
    return json.loads(answer.body)["error"]
