"""``python -m tests.endpoints.agent``: an OpenAI-compatible endpoint whose model works on scripted missions.

Input: chat requests; the goal names the script. Output: its next turn, streamed or not. It keeps nothing between
requests, so that it may be killed and started again; what it was paid for goes into ``--log``, a line of JSON when a
request comes and one when its answer is whole. ``POST /control`` makes it slow, refuse or fail until told otherwise.
"""

import argparse
import asyncio
import base64
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from aiohttp import web

from tests.endpoints.conversation import Conversation, Said, Scripts, Turn, named

MODEL = "mission-model"
CONTEXT = 262_144
BODY_MAX_BYTES = 256 * 1024 * 1024
PIECE = 96
CHARACTERS_PER_TOKEN = 4


@dataclass
class Control:
    mode: Literal["well", "quota", "busy", "fails", "hangs"] = "well"
    seconds: float = 0.0
    """From a request to the end of its answer."""


class AgentEndpoint:
    def __init__(self, scripts: Scripts, log: Path | None, control: Control) -> None:
        self._scripts, self._log, self.control = scripts, log, control

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "object": "list",
                "data": [{"id": MODEL, "object": "model", "owned_by": "tests", "max_model_len": CONTEXT}],
            }
        )

    async def set_control(self, request: web.Request) -> web.Response:
        self.control = Control(**(asdict(self.control) | await request.json()))
        return web.json_response(asdict(self.control))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        came = time.time()
        body = await request.json()
        conversation = conversation_of(body["messages"])
        self._note("asked", conversation, came)
        if (refused := await self._refusal()) is not None:
            self._note(self.control.mode, conversation, came)
            return refused
        answer = Answer(self._scripts.turn(conversation), conversation)
        if body.get("stream"):
            response = await self._stream(request, answer)
        else:
            await asyncio.sleep(self.control.seconds)
            response = web.json_response(answer.whole())
        self._note("answered", conversation, came, answer.usage["total_tokens"])
        return response

    async def _refusal(self) -> web.Response | None:
        mode = self.control.mode
        if mode == "hangs":
            await asyncio.sleep(3600)
        if mode == "quota":
            return _error(429, "exceeded_current_quota_error", "your account has no balance left")
        if mode == "busy":
            return _error(429, "engine_overloaded_error", "too many requests")
        return _error(500, "server_error", "out of memory") if mode == "fails" else None

    async def _stream(self, request: web.Request, answer: "Answer") -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunks = list(answer.chunks())
        for chunk in chunks:
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            if self.control.seconds:
                await asyncio.sleep(self.control.seconds / len(chunks))
        await response.write(b"data: [DONE]\n\n")
        return response

    def _note(self, what: str, conversation: Conversation, came: float, tokens: int = 0) -> None:
        """One short line, written at once: a kill does not tear it. ``came``: when the request did."""
        if self._log is None:
            return
        mission = conversation.mission
        row = {"time": time.time(), "what": what, "run": mission.label if mission else "", "step": conversation.step}
        row |= {"digest": conversation.digest, "tokens": tokens, "seconds": time.time() - came}
        with self._log.open("a") as log:
            log.write(json.dumps(row) + "\n")


@dataclass(frozen=True)
class Answer:
    """A turn in OpenAI's words."""

    turn: Turn
    conversation: Conversation

    @property
    def _finish_reason(self) -> str:
        return "tool_calls" if self.turn.calls else "stop"

    @property
    def usage(self) -> dict[str, int]:
        spoken = len(self.turn.reasoning) + len(self.turn.content) + sum(len(c.arguments) for c in self.turn.calls)
        shown = sum(len(one.text) for one in self.conversation.said)
        prompt, completion = 1 + shown // CHARACTERS_PER_TOKEN, 1 + spoken // CHARACTERS_PER_TOKEN
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _calls(self) -> list[dict[str, Any]]:
        return [
            {
                "id": f"functions.{call.name}:{self.conversation.calls_before + index}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for index, call in enumerate(self.turn.calls)
        ]

    def whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": self.turn.content,
            "reasoning_content": self.turn.reasoning,
        }
        if self.turn.calls:
            message["tool_calls"] = self._calls()
        choice = {"index": 0, "message": message, "finish_reason": self._finish_reason}
        return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": self.usage}

    def chunks(self) -> Iterator[dict[str, Any]]:
        yield _chunk({"role": "assistant", "content": ""})
        yield from (_chunk({"reasoning_content": piece}) for piece in _pieces(self.turn.reasoning))
        yield from (_chunk({"content": piece}) for piece in _pieces(self.turn.content))
        for index, call in enumerate(self._calls()):
            arguments = call["function"]["arguments"]
            head = call | {"index": index, "function": {"name": call["function"]["name"], "arguments": ""}}
            yield _chunk({"tool_calls": [head]})
            for piece in _pieces(arguments):
                yield _chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        yield _chunk({}, self._finish_reason)
        yield {"object": "chat.completion.chunk", "choices": [], "usage": self.usage}


def conversation_of(messages: list[dict[str, Any]]) -> Conversation:
    calls = sum(len(message.get("tool_calls") or ()) for message in messages)
    return Conversation([_said(message) for message in messages], calls)


def _said(message: dict[str, Any]) -> Said:
    content = message.get("content") or ""
    if isinstance(content, str):
        return Said(message["role"], content)
    text = "".join(part.get("text", "") for part in content)
    images = tuple(
        base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in content if part["type"] == "image_url"
    )
    media = sum(part["type"] in ("image_url", "video_url") for part in content)
    return Said(message["role"], text, images, media)


def _pieces(text: str) -> list[str]:
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}


def _error(status: int, kind: str, message: str) -> web.Response:
    return web.json_response({"error": {"type": kind, "message": message, "code": None}}, status=status)


def application(endpoint: AgentEndpoint) -> web.Application:
    app = web.Application(client_max_size=BODY_MAX_BYTES)
    app.add_routes(
        [
            web.get("/v1/models", endpoint.models),
            web.post("/v1/chat/completions", endpoint.chat),
            web.post("/control", endpoint.set_control),
        ]
    )
    return app


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.endpoints.agent")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--scripts", default="tests.missions.scripts:SCRIPTS")
    parsed = parser.parse_args()
    endpoint = AgentEndpoint(named(parsed.scripts), parsed.log, Control(seconds=parsed.seconds))
    web.run_app(application(endpoint), host="127.0.0.1", port=parsed.port, print=None, access_log=None)


if __name__ == "__main__":
    main()
