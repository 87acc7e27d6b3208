"""HTTP handlers of chats, models, traces and health. Uploaded files have ``file_handlers.py``.

Input: requests whose principal is known. Output: responses; errors are raised and become bodies in ``error_body``.
"""

import asyncio
import logging
import re
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from schemas import codec, names
from schemas.chat import ChatFinished, ChatRequest
from schemas.failure import Failure
from schemas.request import Principal, RequestContext
from schemas.telemetry import (
    ATTR_FINISH_REASONS,
    ATTR_INPUT_TOKENS,
    ATTR_MEDIA_TOKENS,
    ATTR_MODEL,
    ATTR_OPERATION,
    ATTR_OUTPUT_TOKENS,
    ATTR_REQUEST_ID,
    SPAN_HTTP_CHAT,
    Trace,
    TraceQuery,
)
from services.gateway import chat_body
from services.gateway.answer import Answer, AnswerHead, delta_chunk, first_chunk, last_chunks
from services.gateway.chat import Chat, Chats
from services.gateway.chat_request import ChatRequests
from services.gateway.config import GatewayConfig
from services.gateway.error_body import json_response, to_failure
from services.gateway.event_stream import EventStream
from services.gateway.identity import PRINCIPAL, REQUEST_ID
from services.gateway.limits import Budget
from services.gateway.models import ModelDirectory
from services.gateway.seen_media import SeenMedia
from shared.bus.interface import Bus
from shared.clock import Clock
from shared.errors import BadInput, Cancelled, Internal, MoontideError, NotFound, Unavailable, from_failure
from shared.telemetry.tracing import Span, Telemetry

TRACE_REPLY: Any = Trace | Failure

log = logging.getLogger(__name__)

_TRACE_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True)
class Wanted:
    """What is kept of a body once its media are stored: the bytes themselves are free again."""

    request: ChatRequest
    stream: bool
    include_usage: bool


class Handlers:
    def __init__(
        self,
        config: GatewayConfig,
        bus: Bus,
        clock: Clock,
        telemetry: Telemetry,
        models: ModelDirectory,
        requests: ChatRequests,
        chats: Chats,
        seen: SeenMedia,
    ) -> None:
        self._config = config
        self._bus = bus
        self._clock = clock
        self._telemetry = telemetry
        self._models = models
        self._requests = requests
        self._chats = chats
        self._seen = seen
        self._active = Budget("requests", config.max_requests)
        self._bodies = Budget("request bytes", config.bodies_max_bytes)
        self.draining = False

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/chat/completions", self.chat),
            web.get("/v1/models", self.models),
            web.get("/v1/models/{id:.+}", self.model),
            web.get("/v1/traces/{id}", self.trace),
            web.get("/livez", self.livez),
            web.get("/readyz", self.readyz),
        ]

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/chat/completions``."""
        events = EventStream(request, self._config.write_timeout_seconds)
        try:
            return await self._chat(request, events)
        except Exception as error:
            if not events.started:
                raise
            if not isinstance(error, MoontideError):
                log.exception("stream failed")
            if not isinstance(error, Cancelled):
                await events.fail(to_failure(error))
            return events.response

    async def _chat(self, request: web.Request, events: EventStream) -> web.StreamResponse:
        started = self._clock.monotonic_seconds()
        request_id: str = request[REQUEST_ID]
        attributes = {ATTR_REQUEST_ID: request_id, ATTR_OPERATION: "chat"}
        parent = request.headers.get("traceparent", "")
        with (
            self._active.take(),
            self._telemetry.span(SPAN_HTTP_CHAT, parent=parent, kind="server", attributes=attributes) as span,
        ):
            wanted = await self._wanted(request)
            model = wanted.request.model
            span.set_attribute(ATTR_MODEL, model)
            context = self._context(request, span.traceparent)
            head = AnswerHead(request_id, span.trace_id, model, int(self._clock.unix_seconds()))
            async with self._chats.accepted(context, wanted.request, span.trace_id) as chat:
                if wanted.stream:
                    response = await self._stream(chat, head, started, events, wanted.include_usage)
                else:
                    response = await self._complete(chat, head, started)
                _describe(span, chat.finished)
                return response

    def _context(self, request: web.Request, traceparent: str) -> RequestContext:
        return RequestContext(
            request_id=request[REQUEST_ID],
            principal=request[PRINCIPAL],
            deadline_unix_seconds=self._clock.unix_seconds() + self._config.request_timeout_seconds,
            traceparent=traceparent,
        )

    async def _wanted(self, request: web.Request) -> Wanted:
        principal: Principal = request[PRINCIPAL]
        length = request.content_length
        with self._bodies.take(self._config.body_max_bytes if length is None else length):
            body = chat_body.parse(await self._read(request))
            model = await self._models.resolve(body.model)
            chat_body.check_served(body, self._models.capabilities(model))
            return Wanted(
                request=await self._requests.build(body, model, principal),
                stream=body.stream is True,
                include_usage=body.stream_options is not None and body.stream_options.include_usage is True,
            )

    async def _read(self, request: web.Request) -> bytes:
        """Not ``request.read()``, which would keep the bytes as long as the request lives."""
        limit = self._config.body_max_bytes
        too_large = BadInput(
            "body_too_large",
            f"the body is larger than {limit} bytes; upload large media with POST /v1/files",
            status=413,
        )
        if (request.content_length or 0) > limit:
            raise too_large
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._config.body_timeout_seconds):
                async for piece in request.content.iter_any():
                    size += len(piece)
                    if size > limit:
                        raise too_large
                    pieces.append(piece)
        except TimeoutError as error:
            raise BadInput("body_timeout", "the body did not arrive in time", status=408) from error
        return b"".join(pieces)

    async def _stream(
        self, chat: Chat, head: AnswerHead, started: float, events: EventStream, include_usage: bool
    ) -> web.StreamResponse:
        """Nothing is sent before the first item, so that a refusal has its own status."""
        async with events.kept_alive(self._config.heartbeat_seconds), aclosing(chat.items()) as items:
            async for item in items:
                begin = () if events.started else (first_chunk(head),)
                if isinstance(item, ChatFinished):
                    await self._seen.remember(chat.principal, item.media)
                    total = self._clock.monotonic_seconds() - started
                    await events.send(*begin, *last_chunks(head, item, total, include_usage))
                else:
                    await events.send(*begin, delta_chunk(head, item))
        await events.done()
        return events.response

    async def _complete(self, chat: Chat, head: AnswerHead, started: float) -> web.Response:
        answer = Answer()
        async with aclosing(chat.items()) as items:
            async for item in items:
                if isinstance(item, ChatFinished):
                    await self._seen.remember(chat.principal, item.media)
                    total = self._clock.monotonic_seconds() - started
                    return json_response(answer.completion(head, item, total))
                answer.add(item)
        raise Internal("chat.incomplete", "the answer ended without its last item")

    async def models(self, request: web.Request) -> web.Response:
        """``GET /v1/models``."""
        return json_response({"object": "list", "data": await self._models.entries()})

    async def model(self, request: web.Request) -> web.Response:
        """``GET /v1/models/{id}``."""
        return json_response(await self._models.entry(request.match_info["id"]))

    async def trace(self, request: web.Request) -> web.Response:
        """``GET /v1/traces/{id}``: a trace id or a request id, answered by the recorder."""
        query = TraceQuery(id=request.match_info["id"])
        if not _TRACE_ID.fullmatch(query.id):
            raise NotFound("trace.not_found", "no such trace", param="id")
        timeout = self._config.trace_timeout_seconds
        data = await self._bus.request(names.SUBJECT_TRACE_GET, codec.encode(query), timeout)
        reply = codec.decode(data, TRACE_REPLY)
        if isinstance(reply, Failure):
            raise from_failure(reply)
        return json_response(reply)

    async def livez(self, request: web.Request) -> web.Response:
        return json_response({"status": "alive"})

    async def readyz(self, request: web.Request) -> web.Response:
        """Ready: the bus answers, at least one model is served, and no drain has begun."""
        if self.draining:
            raise Unavailable("gateway.draining", "the gateway is shutting down")
        try:
            entries = await self._models.entries()
        except MoontideError as error:
            raise Unavailable("gateway.no_bus", "the bus does not answer") from error
        if not entries:
            raise Unavailable("model.none", "no model is being served yet")
        return json_response({"status": "ready", "models": [entry.id for entry in entries]})


def _describe(span: Span, finished: ChatFinished | None) -> None:
    if finished is None:
        return
    span.set_attribute(ATTR_INPUT_TOKENS, finished.usage.prompt_tokens)
    span.set_attribute(ATTR_OUTPUT_TOKENS, finished.usage.completion_tokens)
    span.set_attribute(ATTR_MEDIA_TOKENS, finished.usage.media_tokens)
    span.set_attribute(ATTR_FINISH_REASONS, (finished.finish_reason,))
