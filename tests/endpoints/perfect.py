"""A perfect OpenAI-compatible endpoint as a real HTTP server, or one with exactly one planted defect.

Input: the name of a defect, or none. Output: a server on a free port. Answers depend on the question alone, are cut at
their limit and before their stop strings, and count their tokens; calls and formatted answers fit every schema; every
bad field is refused by name. ``DEFECTS`` says which promise each switch breaks.
"""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.endpoints.instances import instance

KEY = "sk-perfect-0123456789abcdef"
MODEL = "perfect-model"
MEDIA_TOKENS = 100
LOAD = 32
"""Streams open at once from which a server that cannot stand load loses words."""

REFUSALS = (
    *("temperature", "top_p", "max_tokens", "role", "stops", "seed", "stream"),
    *("no_messages", "empty_messages", "messages_type", "no_model"),
    *("content_part", "tools", "tool_choice", "response_format"),
)

DEFECTS = {
    "lists_no_models": "models.list",
    "no_id": "chat.plain",
    "ignores_patterns": "tools.schemas",
    "refuses_references": "tools.schemas",
    "arguments_as_value": "tools.shape",
    "same_call_ids": "tools.shape",
    "empty_tool_deltas": "tools.streamed",
    "cuts_streamed_arguments": "tools.streamed",
    "fails_after_result": "tools.turn",
    "ignores_choice_none": "choice.none",
    "never_calls_by_itself": "choice.auto",
    "ignores_choice_required": "choice.required",
    "calls_another": "choice.named",
    "fenced_json": "format.json_object",
    "ignores_schema": "format.json_schema",
    "no_done": "streams.protocol",
    "broken_event": "streams.protocol",
    "many_ids": "streams.protocol",
    "rolls_dice": "streams.repeatable",
    "loses_words_in_streams": "streams.equal",
    "loses_words_under_load": "streams.equal",
    **{f"accepts_{name}": f"refusals.{name}" for name in REFUSALS},
    "names_nothing": "refusals.top_p",
    "plain_text_refusal": "refusals.malformed_json",
    "refuses_inside_streams": "refusals.streamed",
    "drops_images": "media.image",
    "fails_on_video": "media.video",
    "takes_broken_images": "media.broken_image",
    "wrong_total": "usage.total",
    "counts_beyond_limit": "usage.limit",
    "no_streamed_usage": "usage.streamed",
    "other_streamed_usage": "usage.streamed",
    "forbidden_for_wrong_key": "errors.key",
    "any_model": "errors.model",
    "bare_404": "errors.path",
    "bare_405": "errors.method",
    "odd_finish": "finish.stop",
    "stop_for_length": "finish.length",
    "stop_for_calls": "finish.tool_calls",
    "no_streamed_finish": "finish.streamed",
    "ignores_stop": "finish.stop_string",
}
"""Each switch, and the one check that names what it breaks."""


class Refusal(Exception):
    def __init__(self, status: int, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param = status, message, param

    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": None}}


@dataclass
class PerfectEndpoint:
    defect: str = ""
    refuses: frozenset[str] = frozenset()
    """Capabilities that are openly refused: tools, response_format, images, video."""
    random_weights: bool = False
    """Says so of its model."""
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    open_streams: int = 0

    @web.middleware
    async def errors(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refusal as refusal:
            if self.defect == "plain_text_refusal" and "JSON" in refusal.message:
                return web.Response(status=400, text="Bad Request")
            return web.json_response(refusal.body(), status=refusal.status)
        except web.HTTPException as error:
            if self.defect == f"bare_{error.status}":
                return web.json_response({"detail": error.reason}, status=error.status)
            return web.json_response(Refusal(error.status, error.reason).body(), status=error.status)

    async def models(self, request: web.Request) -> web.StreamResponse:
        row = {"id": MODEL, "object": "model", "owned_by": "tests", "random_weights": self.random_weights}
        rows = [] if self.defect == "lists_no_models" else [row]
        return web.json_response({"object": "list", "data": rows})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self._check_key(request)
        try:
            body = json.loads(await request.read())
        except ValueError:
            raise Refusal(400, "the body is not valid JSON") from None
        self.requests.append(body)
        try:
            for name, param, bad in problems(body):
                if bad and self.defect != f"accepts_{name}":
                    told = "no" if self.defect == "names_nothing" and name == "top_p" else f"{param} is not valid"
                    raise Refusal(400, told, None if told == "no" else param)
            self._check(body)
        except Refusal as refusal:
            if self.defect == "refuses_inside_streams" and body.get("stream") is True:
                return await self._events(request, [refusal.body()])
            raise
        answer = Answer(self, body)
        if body.get("stream") is not True:
            return web.json_response(answer.whole())
        self.open_streams += 1
        try:
            return await self._events(request, answer.chunks(), answer)
        finally:
            self.open_streams -= 1

    def _check_key(self, request: web.Request) -> None:
        sent = request.headers.get("Authorization", "")
        if sent != f"Bearer {KEY}":
            raise Refusal(403 if self.defect == "forbidden_for_wrong_key" else 401, f"incorrect API key: {sent}")

    def _check(self, body: dict[str, Any]) -> None:
        model = body.get("model", MODEL)
        if model != MODEL and self.defect != "any_model":
            raise Refusal(404, f"there is no model {model!r}", "model")
        kinds = {part.get("type") for part in parts(body)}
        wanted = {"tools": "tools" in body, "response_format": "response_format" in body}
        wanted |= {"images": "image_url" in kinds, "video": "video_url" in kinds}
        for name, is_wanted in wanted.items():
            if is_wanted and name in self.refuses:
                raise Refusal(400, f"{name}: not supported by this model", name)
        if self.defect == "refuses_references" and "$ref" in json.dumps(body.get("tools")):
            raise Refusal(400, "$ref is not supported", "tools")
        if self.defect == "fails_after_result" and any(message["role"] == "tool" for message in body["messages"]):
            raise Refusal(500, "unexpected role")
        if self.defect == "fails_on_video" and "video_url" in kinds:
            raise Refusal(500, "no decoder")
        if self.defect != "takes_broken_images" and not all(is_picture(part) for part in parts(body)):
            raise Refusal(400, "image_url: the data is no image", "messages")

    async def _events(
        self, request: web.Request, chunks: "Iterator[dict[str, Any]] | list[dict[str, Any]]", answer: Any = None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number, chunk in enumerate(chunks):
            if number == 4 and answer is not None:
                if self.defect == "broken_event":
                    await response.write(b'data: {"id": "cut\n\n')
                if self._loses_words() and chunk["choices"] and "content" in chunk["choices"][0]["delta"]:
                    continue
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            if self.defect == "loses_words_under_load":
                await asyncio.sleep(0.002)
        if self.defect != "no_done":
            await response.write(b"data: [DONE]\n\n")
        return response

    def _loses_words(self) -> bool:
        under_load = self.defect == "loses_words_under_load" and self.open_streams >= LOAD
        return under_load or self.defect == "loses_words_in_streams"


class Answer:
    def __init__(self, endpoint: PerfectEndpoint, body: dict[str, Any]) -> None:
        self.defect = endpoint.defect
        self.body = body
        self.calls = [self._call(index, function) for index, function in enumerate(self._called())]
        dice = str(len(endpoint.requests)) if self.defect == "rolls_dice" else ""
        content = "" if self.calls else self._formatted() or words(str(body.get("messages")) + dice)
        ended = content if self.defect == "ignores_stop" else before(content, stops(body))
        limit = body.get("max_tokens")
        limit = limit if isinstance(limit, int) and limit > 0 else 1000
        self.pieces = ended.split(" ")[:limit]
        self.is_cut = len(ended.split(" ")) > limit

    @property
    def finish_reason(self) -> str:
        if self.calls:
            return "stop" if self.defect == "stop_for_calls" else "tool_calls"
        return "length" if self.is_cut else "eos" if self.defect == "odd_finish" else "stop"

    def usage(self) -> dict[str, int]:
        images = sum(part["type"] == "image_url" for part in parts(self.body))
        videos = sum(part["type"] == "video_url" for part in parts(self.body))
        seen = videos + (0 if self.defect == "drops_images" else images)
        prompt = len(question(self.body).split()) + seen * MEDIA_TOKENS
        said = len(self.pieces) + sum(len(call["function"]["name"]) for call in self.calls)
        said += 3 if self.is_cut and self.defect == "counts_beyond_limit" else 0
        total = prompt + said + (self.defect == "wrong_total")
        return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": total}

    def whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": " ".join(self.pieces) or None}
        if self.calls:
            message["tool_calls"] = self.calls
        finish = self.finish_reason
        if finish == "length" and self.defect == "stop_for_length":
            finish = "stop"
        choices = [{"index": 0, "message": message, "finish_reason": finish}]
        answer = {"id": "chatcmpl-7", "object": "chat.completion", "created": 1, "model": MODEL, "choices": choices}
        if self.defect == "no_id":
            del answer["id"]
        return {**answer, "usage": self.usage()}

    def chunks(self) -> Iterator[dict[str, Any]]:
        for number, (delta, finish) in enumerate(self._deltas()):
            yield self._chunk([{"index": 0, "delta": delta, "finish_reason": finish}], number)
        wanted = (self.body.get("stream_options") or {}).get("include_usage")
        if wanted and self.defect != "no_streamed_usage":
            usage = self.usage()
            if self.defect == "other_streamed_usage":
                usage = {**usage, "completion_tokens": usage["completion_tokens"] + 1}
            yield self._chunk([], 0) | {"usage": usage}

    def _chunk(self, choices: list[Any], number: int) -> dict[str, Any]:
        name = f"chatcmpl-{number if self.defect == 'many_ids' else 7}"
        return {"id": name, "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": choices}

    def _deltas(self) -> Iterator[tuple[dict[str, Any], str | None]]:
        yield {"role": "assistant", "content": ""}, None
        spoken = [piece for piece in self.pieces if not self.calls]
        yield from (({"content": piece if not at else f" {piece}"}, None) for at, piece in enumerate(spoken))
        for index, call in enumerate(self.calls):
            yield from (({"tool_calls": pieces}, None) for pieces in self._call_deltas(index, call))
        yield {}, None if self.defect == "no_streamed_finish" else self.finish_reason

    def _call_deltas(self, index: int, call: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
        if self.defect == "empty_tool_deltas":
            yield []
            return
        text = call["function"]["arguments"]
        text = text if isinstance(text, str) else json.dumps(text)
        yield [{**call, "index": index, "function": {"name": call["function"]["name"], "arguments": ""}}]
        for start in range(0, len(text), 7):
            if start and self.defect == "cuts_streamed_arguments":
                return
            yield [{"index": index, "function": {"arguments": text[start : start + 7]}}]

    def _called(self) -> list[dict[str, Any]]:
        functions = [tool.get("function", {"name": "nameless"}) for tool in self.body.get("tools") or ()]
        choice = self.body.get("tool_choice", "auto")
        if isinstance(choice, dict):
            found = [function for function in functions if function["name"] == choice["function"]["name"]]
            return functions[:1] if self.defect == "calls_another" else found
        asked = [function for function in functions if f"call the tool {function['name']}" in question(self.body)]
        if choice == "none":
            return asked if self.defect == "ignores_choice_none" else []
        if choice == "required" and self.defect != "ignores_choice_required":
            return (asked or functions)[:1] * (2 if self.defect == "same_call_ids" else 1)
        return [] if self.defect == "never_calls_by_itself" or choice == "required" else asked

    def _call(self, index: int, function: dict[str, Any]) -> dict[str, Any]:
        schema = function.get("parameters", {})
        value = instance(schema)
        if self.defect == "ignores_patterns" and '"pattern"' in json.dumps(schema):
            value = json.loads(json.dumps(value).replace("ab-123", "ab_123"))
        arguments = value if self.defect == "arguments_as_value" else json.dumps(value)
        name = f"functions.{function['name']}:{0 if self.defect == 'same_call_ids' else index}"
        return {"id": name, "type": "function", "function": {"name": function["name"], "arguments": arguments}}

    def _formatted(self) -> str:
        wanted = self.body.get("response_format") or {}
        if wanted.get("type") == "json_object":
            text = '{"city": "Kyoto", "country": "Japan"}'
            return f"```json\n{text}\n```" if self.defect == "fenced_json" else text
        if wanted.get("type") != "json_schema":
            return ""
        return "{}" if self.defect == "ignores_schema" else json.dumps(instance(wanted["json_schema"]["schema"]))


def problems(body: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Name of each rule, the field it is about, and whether it is broken."""
    messages = body.get("messages")
    listed = [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []
    tools = body.get("tools") or []
    choice, wanted = body.get("tool_choice"), body.get("response_format") or {"type": "text"}
    roles = {message.get("role") for message in listed}
    yield "no_model", "model", "model" not in body
    yield "no_messages", "messages", "messages" not in body
    yield "empty_messages", "messages", messages == []
    yield "messages_type", "messages", isinstance(messages, str)
    yield "role", "messages[0].role", not roles <= {"system", "user", "assistant", "tool"}
    yield (
        "content_part",
        "content",
        not {part.get("type") for part in parts(body)} <= {"text", "image_url", "video_url"},
    )
    yield "temperature", "temperature", not 0 <= body.get("temperature", 0) <= 2
    yield "top_p", "top_p", not 0 < body.get("top_p", 1) <= 1
    yield "max_tokens", "max_tokens", body.get("max_tokens", 1) < 1
    yield "stops", "stop", len(stops(body)) > 5
    yield "seed", "seed", not isinstance(body.get("seed", 0), int)
    yield "stream", "stream", not isinstance(body.get("stream", False), bool)
    yield "tools", "tools[0].function", not all("function" in tool for tool in tools)
    names = {tool.get("function", {}).get("name") for tool in tools}
    yield "tool_choice", "tool_choice", isinstance(choice, dict) and choice["function"]["name"] not in names
    yield "response_format", "response_format", wanted["type"] not in ("text", "json_object", "json_schema")


def parts(body: dict[str, Any]) -> list[dict[str, Any]]:
    messages = body.get("messages")
    contents = [message.get("content") for message in messages] if isinstance(messages, list) else []
    return [part for content in contents if isinstance(content, list) for part in content]


def question(body: dict[str, Any]) -> str:
    messages = body.get("messages")
    content = messages[-1].get("content") if isinstance(messages, list) and messages else ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def is_picture(part: dict[str, Any]) -> bool:
    if part.get("type") != "image_url":
        return True
    return base64.b64decode(part["image_url"]["url"].partition(",")[2]).startswith(b"\x89PNG")


def stops(body: dict[str, Any]) -> list[str]:
    given = body.get("stop") or []
    return [given] if isinstance(given, str) else given


def before(text: str, ends: list[str]) -> str:
    return min((text.partition(end)[0] for end in ends), key=len, default=text)


def words(seed: str) -> str:
    """Twenty words that depend on the seed alone."""
    digest = hashlib.sha256(seed.encode()).hexdigest()
    return " ".join(f"wörd-{digest[start : start + 3]}" for start in range(20)) + " ✓ 🎞"


@asynccontextmanager
async def serving_perfect(
    defect: str = "", refuses: frozenset[str] = frozenset(), *, random_weights: bool = False
) -> AsyncIterator[PerfectEndpoint]:
    """A running endpoint; stopped, with its connections, on exit."""
    assert not defect or defect in DEFECTS, defect
    endpoint = PerfectEndpoint(defect, refuses, random_weights)
    app = web.Application(middlewares=[endpoint.errors], client_max_size=64 * 1024 * 1024)
    app.router.add_get("/v1/models", endpoint.models)
    app.router.add_post("/v1/chat/completions", endpoint.chat)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handle_signals=False, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield endpoint
    finally:
        await runner.cleanup()
