"""HTTP handlers of chats: answered, or only counted.

Input: requests whose principal is known. Output: responses; errors are raised and become bodies in ``error_body``.
"""

import asyncio
import hashlib
import logging
from contextlib import AbstractContextManager, ExitStack, aclosing
from dataclasses import dataclass

from aiohttp import web

from schemas.chat import ChatFinished, ChatRequest, Usage
from schemas.request import Principal, RequestContext
from schemas.telemetry import (
    ATTR_CACHED_TOKENS,
    ATTR_FINISH_REASONS,
    ATTR_INPUT_TOKENS,
    ATTR_MEDIA_TOKENS,
    ATTR_MODEL,
    ATTR_OPERATION,
    ATTR_OUTPUT_TOKENS,
    ATTR_USAGE_COUNTS,
    ATTR_USAGE_ESTIMATED,
    SPAN_HTTP_CHAT,
)
from services.gateway import agent_rules, chat_request, chat_rules, choices
from services.gateway.agent_chat import AgentAsked, AgentChats
from services.gateway.answer import Answer, AnswerHead, completion, delta_chunk, end_chunk, first_chunk, last_chunks
from services.gateway.capabilities import check_served
from services.gateway.chat import Chat, Chats
from services.gateway.chat_body import ChatBody
from services.gateway.chat_request import ChatRequests
from services.gateway.config import GatewayConfig
from services.gateway.error_body import json_response, to_failure
from services.gateway.event_stream import EventStream
from services.gateway.identity import PRINCIPAL, REQUEST_ID, span_attributes
from services.gateway.json_body import unsupported
from services.gateway.limits import Budget
from services.gateway.message_rules import check_reasoning_kept
from services.gateway.models import ModelDirectory, Target
from services.gateway.quotas import Quotas
from services.gateway.request_body import LARGE_BODY_BYTES, RequestBodies
from services.gateway.run_starts import RunStarts
from services.gateway.seen_media import SeenMedia
from services.gateway.token_count import CountedTokens, TokenEstimate, count_tokens
from services.gateway.token_estimate import prompt_tokens
from services.gateway.token_use import total_tokens, used
from shared.clock import Clock
from shared.errors import BadInput, Cancelled, MoontideError
from shared.telemetry.tracing import Span, Telemetry

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What is kept of a body once its media are stored: the bytes themselves are free again."""

    request: ChatRequest
    model: str
    """As the answer calls it."""
    choices: int
    stream: bool
    include_usage: bool
    logprobs: bool
    one_call: bool
    limit_name: str
    prompt_tokens: int
    completion_tokens: int
    """What it may cost at most, as far as anybody can say before; of all choices."""


class ChatHandlers:
    def __init__(
        self,
        config: GatewayConfig,
        clock: Clock,
        telemetry: Telemetry,
        models: ModelDirectory,
        bodies: RequestBodies,
        requests: ChatRequests,
        chats: Chats,
        seen: SeenMedia,
        quotas: Quotas,
        starts: RunStarts,
        agents: AgentChats,
    ) -> None:
        self._config = config
        self._clock = clock
        self._telemetry = telemetry
        self._models = models
        self._bodies = bodies
        self._requests = requests
        self._chats = chats
        self._seen = seen
        self._quotas = quotas
        self._starts = starts
        self._agents = agents
        self._active = Budget("requests", config.max_requests)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/chat/completions", self.chat),
            web.post("/v1/tokenizers/estimate-token-count", self.count),
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

    async def count(self, request: web.Request) -> web.Response:
        """``POST /v1/tokenizers/estimate-token-count``: the body of a chat, of which only the prompt counts."""
        with self._active.take(), self._span(request, "count") as span:
            async with self._bodies.read(request) as data:
                body, target = await self._checked(data)
                chat = await self._requests.build(body, target, request[PRINCIPAL])
            span.set_attribute(ATTR_MODEL, target.model)
            if not target.counts_tokens:
                raise unsupported("model", "this model does not count tokens")
            context = self._context(request, span.traceparent)
            counted = await count_tokens(self._chats, context, chat)
            span.set_attribute(ATTR_INPUT_TOKENS, counted.prompt_tokens)
            return json_response(TokenEstimate(data=CountedTokens(total_tokens=counted.prompt_tokens)))

    async def _chat(self, request: web.Request, events: EventStream) -> web.StreamResponse:
        started = self._clock.monotonic_seconds()
        with ExitStack() as place, self._span(request, "chat") as span:
            place.enter_context(self._active.take())
            wanted = await self._wanted(request)
            if isinstance(wanted, AgentAsked):
                span.set_attribute(ATTR_MODEL, wanted.spec.model)
                place.close()
                return await self._agents.answer(request, events, wanted, span)
            span.set_attribute(ATTR_MODEL, wanted.request.model)
            try:
                with self._active.take(wanted.choices - 1):
                    return await self._answer(request, events, wanted, span, started)
            except BadInput as error:
                raise chat_rules.as_sent(error, wanted.limit_name) from error

    async def _answer(
        self, request: web.Request, events: EventStream, wanted: Wanted, span: Span, started: float
    ) -> web.StreamResponse:
        context = self._context(request, span.traceparent)
        head = AnswerHead(context.request_id, span.trace_id, wanted.model, int(self._clock.unix_seconds()))
        calls = choices.requests(wanted.request, wanted.choices)
        async with (
            self._quotas.tokens(context.principal, wanted.prompt_tokens + wanted.completion_tokens) as reserved,
            self._chats.accepted(context, calls, span.trace_id, wanted.one_call) as chat,
        ):
            reserved.charge = lambda: total_tokens(used(chat, wanted.prompt_tokens))
            try:
                if wanted.stream:
                    return await self._stream(chat, head, started, events, wanted.include_usage)
                return await self._complete(chat, head, started, wanted)
            finally:
                _describe(span, chat, used(chat, wanted.prompt_tokens))

    def _span(self, request: web.Request, operation: str) -> AbstractContextManager[Span]:
        attributes = span_attributes(request) | {ATTR_OPERATION: operation}
        parent = request.headers.get("traceparent", "")
        return self._telemetry.span(SPAN_HTTP_CHAT, parent=parent, kind="server", attributes=attributes)

    def _context(self, request: web.Request, traceparent: str) -> RequestContext:
        return RequestContext(
            request_id=request[REQUEST_ID],
            principal=request[PRINCIPAL],
            deadline_unix_seconds=self._clock.unix_seconds() + self._config.request_timeout_seconds,
            traceparent=traceparent,
        )

    async def _wanted(self, request: web.Request) -> Wanted | AgentAsked:
        """Raises BadInput, NotFound for the model, Busy."""
        async with self._bodies.read(request) as data:
            body, target = await self._checked(data)
            if target.agent:
                return await self._asked(body, target, request[PRINCIPAL], data)
            agent_rules.check_plain(body)
            chat = await self._requests.build(body, target, request[PRINCIPAL])
        return Wanted(
            request=chat,
            model=target.entry.id,
            choices=body.n or 1,
            stream=body.stream is True,
            include_usage=_includes_usage(body),
            logprobs=body.logprobs is True,
            one_call=body.parallel_tool_calls is False,
            prompt_tokens=prompt_tokens(body),
            completion_tokens=(chat.sampling.max_tokens or self._config.quota_completion_tokens) * (body.n or 1),
            limit_name="max_tokens" if body.max_completion_tokens is None else "max_completion_tokens",
        )

    async def _asked(self, body: ChatBody, target: Target, principal: Principal, sent: bytes) -> AgentAsked:
        return AgentAsked(
            spec=await self._starts.prepare(principal, agent_rules.as_run(body), target),
            model=target.entry.id,
            body_sha256=hashlib.sha256(sent).hexdigest(),
            stream=body.stream is True,
            include_usage=_includes_usage(body),
            stop_on_disconnect=body.stop_on_disconnect is True,
        )

    async def _checked(self, data: bytes) -> tuple[ChatBody, Target]:
        """Raises BadInput, NotFound for the model."""
        read, mode = chat_rules.read, self._config.sampling
        body = await asyncio.to_thread(read, data, mode) if len(data) > LARGE_BODY_BYTES else read(data, mode)
        target = await self._models.resolve(body.model)
        check_served(body, target.capabilities)
        if mode == "kimi" and chat_request.thinks(body, target):
            check_reasoning_kept(body.messages)
        return body, target

    async def _stream(
        self, chat: Chat, head: AnswerHead, started: float, events: EventStream, include_usage: bool
    ) -> web.StreamResponse:
        """Nothing is sent before the first item, so that a refusal has its own status."""
        begun: set[int] = set()
        async with events.kept_alive(self._config.heartbeat_seconds), aclosing(chat.items()) as items:
            async for index, item in items:
                begin = () if index in begun else (first_chunk(head, index),)
                begun.add(index)
                if not isinstance(item, ChatFinished):
                    await events.send(*begin, delta_chunk(head, item, index))
                    continue
                await self._seen.remember(chat.principal, item.media)
                chunks = [end_chunk(head, item, index)]
                if chat.finished:
                    total = self._clock.monotonic_seconds() - started
                    chunks = last_chunks(head, chunks[0], chat.finished, total, include_usage)
                await events.send(*begin, *chunks)
        await events.done()
        return events.response

    async def _complete(self, chat: Chat, head: AnswerHead, started: float, wanted: Wanted) -> web.Response:
        answers = [Answer() for _ in range(wanted.choices)]
        async with aclosing(chat.items()) as items:
            async for index, item in items:
                if isinstance(item, ChatFinished):
                    await self._seen.remember(chat.principal, item.media)
                else:
                    answers[index].add(item)
        total = self._clock.monotonic_seconds() - started
        return json_response(completion(head, answers, chat.finished, total, wanted.logprobs))


def _includes_usage(body: ChatBody) -> bool:
    return body.stream_options is not None and body.stream_options.include_usage is True


def _describe(span: Span, chat: Chat, usage: Usage | None) -> None:
    if usage is None:
        return
    span.set_attribute(ATTR_INPUT_TOKENS, usage.prompt_tokens)
    span.set_attribute(ATTR_OUTPUT_TOKENS, usage.completion_tokens)
    span.set_attribute(ATTR_CACHED_TOKENS, usage.cached_tokens)
    span.set_attribute(ATTR_USAGE_COUNTS, True)
    span.set_attribute(ATTR_MEDIA_TOKENS, usage.media_tokens)
    span.set_attribute(ATTR_FINISH_REASONS, tuple(item.finish_reason for item in chat.finished))
    if not chat.finished:
        span.set_attribute(ATTR_USAGE_ESTIMATED, True)
