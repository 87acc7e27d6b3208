"""HTTP handlers of ``/v1/runs``: begun, listed, shown and forked. What is said to a run is in ``run_command_handlers``,
what it says in ``run_event_handlers``.

Input: requests whose principal is known. Output: responses; errors are raised and become bodies in ``error_body``.
"""

import asyncio
import hashlib
from contextlib import AbstractContextManager

from aiohttp import web

from schemas.request import Principal, RequestContext
from schemas.runs import RunAccepted, RunOrigin, RunSpec
from schemas.telemetry import ATTR_MODEL, ATTR_RUN_ID, SPAN_HTTP_RUN
from services.gateway import run_request, run_rules
from services.gateway.chat_rules import SamplingMode
from services.gateway.error_body import json_response
from services.gateway.identity import PRINCIPAL, REQUEST_ID, RUN_ID, span_attributes
from services.gateway.json_body import decode_body, refused
from services.gateway.message_view import Messages
from services.gateway.models import ModelDirectory
from services.gateway.request_body import LARGE_BODY_BYTES, RequestBodies
from services.gateway.run_body import ForkBody, RunBody
from services.gateway.run_id import checked_run_id
from services.gateway.run_query import runs_query
from services.gateway.run_request import RunRequests
from services.gateway.run_starts import IDEMPOTENCY_KEY, RunStarts
from services.gateway.run_view import RunList, listed_run, run_object
from services.gateway.runs import Runs
from shared.errors import Internal
from shared.telemetry.tracing import Span, Telemetry


class RunHandlers:
    def __init__(
        self,
        sampling: SamplingMode,
        telemetry: Telemetry,
        bodies: RequestBodies,
        models: ModelDirectory,
        requests: RunRequests,
        starts: RunStarts,
        runs: Runs,
        messages: Messages,
    ) -> None:
        self._sampling: SamplingMode = sampling
        self._telemetry = telemetry
        self._bodies = bodies
        self._models = models
        self._requests = requests
        self._starts = starts
        self._runs = runs
        self._messages = messages

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/runs", self.start),
            web.get("/v1/runs", self.list),
            web.get("/v1/runs/{id}", self.get),
            web.post("/v1/runs/{id}/fork", self.fork),
        ]

    async def start(self, request: web.Request) -> web.Response:
        """``POST /v1/runs``."""
        with self._span(request) as span:
            async with self._bodies.read(request) as data:
                body = await self._read(data)
                target = await self._models.resolve(body.model)
                span.set_attribute(ATTR_MODEL, target.model)
                key = request.headers.get(IDEMPOTENCY_KEY)
                spec = await self._starts.prepare(request[PRINCIPAL], body, target)
                digest = hashlib.sha256(data).hexdigest()
            summary = await self._starts.submit(_context(request, span), spec, key, digest)
            request[RUN_ID] = summary.run_id
            span.set_attribute(ATTR_RUN_ID, summary.run_id)
            return json_response(await run_object(summary, self._messages))

    async def list(self, request: web.Request) -> web.Response:
        """``GET /v1/runs``, newest first; ``?limit=``, ``?after=``, ``?status=``."""
        listed = await self._runs.list(runs_query(request[PRINCIPAL], request.query))
        data = tuple(listed_run(summary) for summary in listed.runs)
        return json_response(RunList(data=data, has_more=listed.more))

    async def get(self, request: web.Request) -> web.Response:
        """``GET /v1/runs/{id}``."""
        summary = await self._runs.get(request[PRINCIPAL], checked_run_id(request.match_info["id"]))
        return json_response(await run_object(summary, self._messages))

    async def fork(self, request: web.Request) -> web.Response:
        """``POST /v1/runs/{id}/fork``."""
        run_id, principal = checked_run_id(request.match_info["id"]), request[PRINCIPAL]
        with self._span(request) as span:
            async with self._bodies.read(request) as data:
                body: ForkBody = decode_body(data, ForkBody)
                spec = await self._forked(principal, run_id, body)
                digest = hashlib.sha256(data).hexdigest()
            key, origin = request.headers.get(IDEMPOTENCY_KEY), RunOrigin(run_id=run_id, step=body.step)
            summary = await self._starts.submit(_context(request, span), spec, key, digest, origin=origin)
            request[RUN_ID] = summary.run_id
            span.set_attribute(ATTR_RUN_ID, summary.run_id)
            return json_response(await run_object(summary, self._messages))

    async def _forked(self, principal: Principal, run_id: str, body: ForkBody) -> RunSpec:
        summary = await self._runs.get(principal, run_id)
        if body.step > summary.step:
            raise refused("step", f"the run has got to step {summary.step}")
        run_rules.check_approvals(body.tools, body.approvals)
        await self._starts.check_tools(principal, body.tools, body.approvals)
        said = () if body.goal is None else (await self._requests.message(body.goal, "goal", principal),)
        return run_request.forked(await self._spec(principal, run_id), body, said)

    async def _spec(self, principal: Principal, run_id: str) -> RunSpec:
        first = await self._runs.first(principal, run_id)
        accepted = first.entry.events[0] if first is not None else None
        if not isinstance(accepted, RunAccepted):
            raise Internal("run.ledger", "the run's ledger does not begin with its acceptance")
        return accepted.spec

    async def _read(self, data: bytes) -> RunBody:
        """A large body is read in a thread, so that streams go on."""
        if len(data) > LARGE_BODY_BYTES:
            return await asyncio.to_thread(run_rules.read, data, self._sampling)
        return run_rules.read(data, self._sampling)

    def _span(self, request: web.Request) -> AbstractContextManager[Span]:
        parent = request.headers.get("traceparent", "")
        return self._telemetry.span(SPAN_HTTP_RUN, parent=parent, kind="server", attributes=span_attributes(request))


def _context(request: web.Request, span: Span) -> RequestContext:
    """Its deadline is the run's to say."""
    return RequestContext(
        request_id=request[REQUEST_ID],
        principal=request[PRINCIPAL],
        deadline_unix_seconds=0.0,
        traceparent=span.traceparent,
    )
