"""A model without weights behind a real gateway: the micro services ``chat.<model>`` and ``count.<model>``.

What it says depends on the conversation alone: it calls the first tool that it may call, tells what a tool returned,
fits the schema that it is asked for, and otherwise repeats what it heard. A token is a piece of three characters.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from schemas import codec, names
from schemas.chat import (
    ChatDelta,
    ChatFinished,
    ChatRequest,
    ContentLogprob,
    CountRequest,
    FinishReason,
    Message,
    ModelVariant,
    TextPart,
    TokenLogprob,
    TokensCounted,
    ToolCallDelta,
    Usage,
)
from schemas.request import RequestContext
from services.gateway.app import app
from services.gateway.config import GatewayConfig
from shared.blobs.store import BlobStore
from shared.bus.interface import Bus
from shared.calls.interface import CallWriter
from shared.calls.serve import serve
from shared.clock import SystemClock
from shared.service import Process
from shared.telemetry.tracing import Telemetry
from tests.endpoints.instances import instance

MODEL = "scripted"
PIECE = 3
VARIANTS = (
    ModelVariant(id=f"{MODEL}-instant", thinking=False, temperature=0.6, top_p=0.95),
    ModelVariant(id=f"{MODEL}-thinking", thinking=True, temperature=1.0, top_p=0.95),
)
METADATA = {
    "model": MODEL,
    "context_length": "4096",
    "capabilities": "image,video,thinking,tools,grammar,sampling,logprobs,partial,thinking_budget",
    "variants": codec.encode_json(VARIANTS).decode(),
}


@dataclass
class ScriptedModel:
    blobs: BlobStore
    requests: list[ChatRequest] = field(default_factory=list)

    async def chat(self, context: RequestContext, request: ChatRequest, out: CallWriter) -> None:
        self.requests = [*self.requests[-99:], request]
        deltas, reason = await self._answer(request)
        limit = request.sampling.max_tokens
        if limit is not None and limit < len(deltas):
            deltas, reason = deltas[:limit], "length"
        for delta in deltas:
            await out.send(delta)
        prompt = await self._prompt_tokens(request)
        usage = Usage(prompt_tokens=prompt, completion_tokens=len(deltas), cached_tokens=prompt // 2)
        await out.send(ChatFinished(finish_reason=reason, usage=usage))

    async def count(self, context: RequestContext, request: CountRequest, out: CallWriter) -> None:
        await out.send(TokensCounted(prompt_tokens=await self._prompt_tokens(request.chat)))

    async def _prompt_tokens(self, request: ChatRequest) -> int:
        return sum([len(await self.blobs.resolve(payload)) for payload in (*request.messages, request.tools)])

    async def _answer(self, request: ChatRequest) -> tuple[list[ChatDelta], FinishReason]:
        last = codec.decode(await self.blobs.resolve(request.messages[-1]), Message)
        thought = _pieces("reasoning", "Let me see. ") if request.thinking else []
        tools = json.loads(await self.blobs.resolve(request.tools) or b"[]")
        if tools and last.role != "tool" and request.tool_choice != b'"none"':
            return thought + _call(tools, request.tool_choice), "tool_calls"
        text = f"The tool said: {_text(last)}" if last.role == "tool" else f"You said: {_text(last)}"
        if request.response_format:
            text = _formatted(json.loads(await self.blobs.resolve(request.response_format)))
        deltas = _pieces("content", text)
        return thought + (_scored(deltas) if request.sampling.top_logprobs is not None else deltas), "stop"


def _pieces(channel: str, text: str) -> list[ChatDelta]:
    parts = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    return [ChatDelta(**{channel: part}, resume=b".") for part in parts]


def _scored(deltas: list[ChatDelta]) -> list[ChatDelta]:
    return [
        msgspec.structs.replace(
            delta, logprobs=(ContentLogprob(chosen=TokenLogprob(data=delta.content.encode(), logprob=-0.5)),)
        )
        for delta in deltas
    ]


def _call(tools: list[Any], choice: bytes) -> list[ChatDelta]:
    """One call of the chosen tool, or of the first one."""
    chosen = json.loads(choice or b"null")
    name = chosen["function"]["name"] if isinstance(chosen, dict) else tools[0]["function"]["name"]
    function = next(tool["function"] for tool in tools if tool["function"]["name"] == name)
    arguments = json.dumps(_value(function.get("parameters") or {"type": "object"}))
    first = ToolCallDelta(index=0, id=f"functions.{name}:0", name=name)
    parts = [arguments[start : start + PIECE] for start in range(0, len(arguments), PIECE)]
    calls = [first, *(ToolCallDelta(index=0, arguments=part) for part in parts)]
    return [ChatDelta(tool_calls=(call,), resume=b".") for call in calls]


def _formatted(wanted: Any) -> str:
    return json.dumps(_value(wanted["json_schema"]["schema"]) if wanted["type"] == "json_schema" else {"a": 1})


def _value(schema: Any) -> Any:
    try:
        return instance(schema)
    except (LookupError, AttributeError, TypeError, RecursionError):
        return {}


def _text(message: Message) -> str:
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


@asynccontextmanager
async def served(bus: Bus, gateway_bus: Bus, folder: Path, **config: Any) -> AsyncIterator[tuple[str, ScriptedModel]]:
    """A gateway with the model behind it: (URL, the model). ``config``: fields of ``GatewayConfig``."""
    blobs = BlobStore.open((folder / "blobs").as_uri())
    model = ScriptedModel(blobs)
    process = Process(
        name="gateway",
        bus=gateway_bus,
        blobs=blobs,
        telemetry=Telemetry(service="gateway", instance=gateway_bus.instance, bus=gateway_bus),
        clock=SystemClock(),
    )
    settings = msgspec.structs.replace(GatewayConfig(port=0, drain_seconds=0.2), **config)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_answering(bus, names.SERVICE_TOKENIZER, names.chat(MODEL), model.chat))
        await stack.enter_async_context(_answering(bus, names.SERVICE_TOKEN_COUNTS, names.count(MODEL), model.count))
        await stack.enter_async_context(process.telemetry.running())
        port = await stack.enter_async_context(app(settings, process))
        yield f"http://127.0.0.1:{port}", model


def _answering(bus: Bus, name: str, subject: str, handler: Any) -> Any:
    return serve(
        bus,
        SystemClock(),
        name=name,
        subject=subject,
        handler=handler,
        body_type=ChatRequest | CountRequest,
        max_calls=64,
        version="1.0.0",
        metadata=METADATA,
        drain_seconds=0.1,
    )
