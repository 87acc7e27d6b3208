"""An OpenAI-compatible endpoint as a real HTTP server, perfect or with planted defects.

Input: a ``Script`` (defects by name, and how many requests they hit). Output: a server on a free port of this machine
that records what it was asked. The perfect one answers the same request with the same words, streamed or not, calls
the tools it is told to with arguments that fit their schemas, and counts what it was sent.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

DEFECTS = frozenset(
    (
        "refuses_video",
        "refuses_images",
        "empty_tool_deltas",
        "empty_tool_deltas_stop",
        "bad_arguments",
        "broken_arguments",
        "unknown_tool",
        "busy",
        "fails",
        "dies_midstream",
        "drips",
        "hangs",
        "malformed_sse",
        "wrong_json",
        "wrong_json_whole",
        "html",
        "error_event",
        "no_finish",
        "no_done",
        "no_usage",
        "ignores_stream",
        "unauthorized",
        "refuses",
        "redirects",
        "content_filter",
        "endless_line",
        "drops_connection",
        "answers_differ",
    )
)


@dataclass
class Script:
    defects: frozenset[str] = frozenset()
    hits: int = 1_000_000
    """Requests that the defects hit; later ones are answered well."""
    reasoning_field: Literal["reasoning_content", "reasoning", "both", ""] = "reasoning_content"
    lump: bool = False
    """Tool arguments in one piece, without ids; otherwise a few characters at a time."""
    token_seconds: float = 0.0
    drip_seconds: float = 0.05
    retry_after: str | None = "0"
    key: str | None = None
    """The bearer token that is asked for, and echoed in refusals, as careless endpoints do."""
    owned_by: str = "scripted"
    models: tuple[str, ...] = ("scripted-model",)

    def __post_init__(self) -> None:
        assert self.defects <= DEFECTS, self.defects - DEFECTS


@dataclass
class ScriptedEndpoint:
    script: Script
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of all chat requests, in order."""
    headers: list[dict[str, str]] = field(default_factory=list)
    open_streams: int = 0
    most_open_streams: int = 0

    def has(self, defect: str) -> bool:
        return defect in self.script.defects and len(self.requests) <= self.script.hits

    async def models(self, request: web.Request) -> web.Response:
        data = [{"id": name, "object": "model", "owned_by": self.script.owned_by} for name in self.script.models]
        return web.json_response({"object": "list", "data": [row | {"max_model_len": 32768} for row in data]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        refused = await self._refusal(request, body)
        if refused is not None:
            return refused
        answer = Answer.to(body, self)
        if not body.get("stream") or self.has("ignores_stream"):
            text = '{"choices": "none"}' if self.has("wrong_json_whole") else json.dumps(answer.whole())
            return web.Response(text=text, content_type="application/json")
        self.open_streams += 1
        self.most_open_streams = max(self.most_open_streams, self.open_streams)
        try:
            return await self._stream(request, answer)
        finally:
            self.open_streams -= 1

    async def _refusal(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse | None:
        sent = request.headers.get("Authorization", "")
        if self.has("unauthorized") or (self.script.key is not None and sent != f"Bearer {self.script.key}"):
            return _error(401, "incorrect_api_key_error", f"Incorrect API key provided: {sent}")
        if self.has("hangs"):
            await asyncio.sleep(3600)
        if self.has("drops_connection"):
            assert request.transport is not None
            request.transport.close()
        if self.has("busy"):
            headers = {"Retry-After": self.script.retry_after} if self.script.retry_after is not None else {}
            return _error(429, "engine_overloaded_error", f"too many requests of {sent}", headers)
        if self.has("fails"):
            return _error(500, "server_error", f"stack trace with {sent}")
        if self.has("html"):
            return web.Response(text="<html><body>It works!</body></html>", content_type="text/html")
        if self.has("redirects"):
            return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/elsewhere"})
        if self.has("refuses"):
            return _error(400, "invalid_request_error", f"invalid temperature ({sent})", param="temperature")
        kinds = {part["type"] for part in _parts(body)}
        if self.has("refuses_video") and "video_url" in kinds:
            return _error(400, "invalid_request_error", "At most 0 video(s) may be provided in one request.")
        if self.has("refuses_images") and "image_url" in kinds:
            return _error(400, "invalid_request_error", "this model takes text only")
        return None

    async def _stream(self, request: web.Request, answer: "Answer") -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        if self.has("endless_line"):
            for _ in range(200):
                await response.write(b"data: " + b"x" * 65536 if _ == 0 else b"x" * 65536)
            return response
        for number, chunk in enumerate(answer.chunks()):
            if not await self._write_chunk(response, number, chunk, request):
                return response
            if self.script.token_seconds:
                await asyncio.sleep(self.script.token_seconds)
        if not self.has("no_done"):
            await response.write(b"data: [DONE]\n\n")
        return response

    async def _write_chunk(
        self, response: web.StreamResponse, number: int, chunk: dict[str, Any], request: web.Request
    ) -> bool:
        """False when this was the last thing on the connection."""
        data = json.dumps(chunk).encode()
        if number == 3 and self.has("malformed_sse"):
            data = b"\n\n" + data[:20] + b"\n" + data[20:]
        if number == 3 and self.has("wrong_json"):
            data = data[:-7]
        if number == 3 and self.has("error_event"):
            data = b'{"error": {"code": 500, "type": "server_error", "message": "engine died"}}'
        event = b"data: " + data + b"\n\n"
        if self.has("drips"):
            for byte in event:
                await response.write(bytes((byte,)))
                await asyncio.sleep(self.script.drip_seconds)
            return True
        await response.write(event)
        if number == 3 and self.has("dies_midstream"):
            assert request.transport is not None
            request.transport.abort()
            return False
        return True


@dataclass
class Answer:
    """The words of one answer, whole or in chunks."""

    endpoint: ScriptedEndpoint
    reasoning: str
    content: str
    calls: list[tuple[str, str]]
    prompt_tokens: int
    finish_reason: str

    @classmethod
    def to(cls, body: dict[str, Any], endpoint: ScriptedEndpoint) -> "Answer":
        calls = _calls(body, endpoint)
        content = "" if calls else _content(body, endpoint)
        reasoning = "Let me think about that.  " if endpoint.script.reasoning_field and _thinks(body) else ""
        words = content.split(" ")
        finish = "tool_calls" if calls else "stop"
        limit = body.get("max_tokens")
        if limit is not None and len(words) > limit:
            content, finish = " ".join(words[:limit]), "length"
        if endpoint.has("content_filter"):
            finish = "content_filter"
        return cls(endpoint, reasoning, content, calls, len(json.dumps(body["messages"])) // 4, finish)

    @property
    def usage(self) -> dict[str, Any]:
        spoken = len(_pieces(self.reasoning)) + len(_pieces(self.content)) + sum(len(text) for _, text in self.calls)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": spoken,
            "total_tokens": self.prompt_tokens + spoken,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": len(_pieces(self.reasoning))},
        }

    def whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": self.content or None,
            **self._thought(self.reasoning),
        }
        if self.calls:
            message["tool_calls"] = [_call(index, name, text) for index, (name, text) in enumerate(self.calls)]
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        usage = {} if self.endpoint.has("no_usage") else {"usage": self.usage}
        return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], **usage}

    def chunks(self) -> Iterator[dict[str, Any]]:
        yield _chunk({"role": "assistant", "content": ""})
        yield from (_chunk(self._thought(piece)) for piece in _pieces(self.reasoning))
        yield from (_chunk({"content": piece}) for piece in _pieces(self.content))
        for index, (name, text) in enumerate(self.calls):
            yield from self._call_chunks(index, name, text)
        if not self.endpoint.has("no_finish"):
            lost = self.calls and self.endpoint.has("empty_tool_deltas_stop")
            yield _chunk({}, "stop" if lost else self.finish_reason)
        if not self.endpoint.has("no_usage"):
            yield {"object": "chat.completion.chunk", "choices": [], "usage": self.usage}

    def _call_chunks(self, index: int, name: str, text: str) -> Iterator[dict[str, Any]]:
        if self.endpoint.has("empty_tool_deltas") or self.endpoint.has("empty_tool_deltas_stop"):
            yield from (_chunk({"tool_calls": []}) for _ in text)
            return
        if self.endpoint.script.lump:
            yield _chunk({"tool_calls": [{"function": {"name": name, "arguments": text}}]})
            return
        yield _chunk({"tool_calls": [_call(index, name, "") | {"index": index}]})
        for start in range(0, len(text), 3):
            yield _chunk({"tool_calls": [{"index": index, "function": {"arguments": text[start : start + 3]}}]})

    def _thought(self, text: str) -> dict[str, str]:
        name = self.endpoint.script.reasoning_field
        if not text or not name:
            return {}
        return {"reasoning": text, "reasoning_content": text} if name == "both" else {name: text}


def example(schema: Any) -> Any:
    """The plainest value that fits a schema of the usual keywords."""
    if not isinstance(schema, dict):
        return None
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for keyword in ("anyOf", "oneOf", "allOf"):
        if keyword in schema:
            return example(schema[keyword][0])
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        wanted = schema.get("required", [])
        return {name: example(inner) for name, inner in schema.get("properties", {}).items() if name in wanted}
    if kind == "array":
        return [example(schema.get("items", {"type": "null"})) for _ in range(schema.get("minItems", 0))]
    if kind == "string":
        return "x" * schema.get("minLength", 1)
    if kind in ("integer", "number"):
        return schema.get("minimum", schema.get("maximum", 1))
    return True if kind == "boolean" else None


@asynccontextmanager
async def serving(script: Script | None = None) -> AsyncIterator[ScriptedEndpoint]:
    """A running endpoint; stopped, with its connections, on exit."""
    endpoint = ScriptedEndpoint(script or Script())
    app = web.Application(client_max_size=256 * 1024 * 1024)
    app.add_routes([web.get("/v1/models", endpoint.models), web.post("/v1/chat/completions", endpoint.chat)])
    runner = web.AppRunner(app, shutdown_timeout=0.1, handle_signals=False, access_log=None, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield endpoint
    finally:
        await runner.cleanup()


def _calls(body: dict[str, Any], endpoint: ScriptedEndpoint) -> list[tuple[str, str]]:
    """Called are: the tool that is named, all of them when required, the first one when the user asks for a call."""
    functions = [tool["function"] for tool in body.get("tools") or ()]
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        functions = [function for function in functions if function["name"] == choice["function"]["name"]]
    elif choice == "none" or (choice == "auto" and "call" not in _last_text(body)):
        return []
    elif "all" not in _last_text(body):
        functions = functions[:1]
    return [_arguments(function, endpoint) for function in functions]


def _arguments(function: dict[str, Any], endpoint: ScriptedEndpoint) -> tuple[str, str]:
    text = json.dumps(example(function.get("parameters", {})))
    if endpoint.has("bad_arguments"):
        text = json.dumps({"unheard_of": 1})
    if endpoint.has("broken_arguments"):
        text = text[:-1] + ', "cut'
    return ("nobody" if endpoint.has("unknown_tool") else function["name"]), text


def _content(body: dict[str, Any], endpoint: ScriptedEndpoint) -> str:
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return json.dumps(example(wanted["json_schema"]["schema"]))
    images = sum(part["type"] == "image_url" for part in _parts(body))
    videos = sum(part["type"] == "video_url" for part in _parts(body))
    other = f" This is answer {len(endpoint.requests)}." if endpoint.has("answers_differ") else ""
    return f"{other}You said “{_last_text(body)}” and sent {images} images and {videos} videos. — ✓ done 🎞"


def _thinks(body: dict[str, Any]) -> bool:
    told = body.get("thinking", {}).get("type") == "disabled"
    return not told and body.get("chat_template_kwargs", {}).get("thinking") is not False


def _parts(body: dict[str, Any]) -> list[dict[str, Any]]:
    contents = [message.get("content") for message in body["messages"]]
    return list(itertools.chain.from_iterable(content for content in contents if isinstance(content, list)))


def _last_text(body: dict[str, Any]) -> str:
    content = body["messages"][-1].get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def _pieces(text: str) -> list[str]:
    return [text[start : start + 4] for start in range(0, len(text), 4)]


def _call(index: int, name: str, arguments: str) -> dict[str, Any]:
    return {"id": f"functions.{name}:{index}", "type": "function", "function": {"name": name, "arguments": arguments}}


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}


def _error(
    status: int, kind: str, message: str, headers: dict[str, str] | None = None, param: str | None = None
) -> web.Response:
    body = {"error": {"type": kind, "message": message, "param": param, "code": None}}
    return web.json_response(body, status=status, headers=headers)
