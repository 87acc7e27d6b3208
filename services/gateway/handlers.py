"""HTTP handlers of models, traces, health and the description of all of them. Chats have ``chat_handlers.py``,
uploaded files ``file_handlers.py``.

Input: requests whose principal is known. Output: responses; errors are raised and become bodies in ``error_body``.
"""

import re
from typing import Any

from aiohttp import web

from schemas import codec, names
from schemas.failure import Failure
from schemas.telemetry import Trace, TraceQuery
from services.gateway.config import GatewayConfig
from services.gateway.error_body import json_response
from services.gateway.health import Alive, Ready
from services.gateway.identity import PRINCIPAL
from services.gateway.models import ModelDirectory, ModelList
from services.gateway.openapi import document
from shared.bus.interface import Bus
from shared.errors import MoontideError, NotFound, Unavailable, from_failure

TRACE_REPLY: Any = Trace | Failure

_TRACE_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


class Handlers:
    def __init__(self, config: GatewayConfig, bus: Bus, models: ModelDirectory) -> None:
        self._config = config
        self._bus = bus
        self._models = models
        self._description = codec.encode_json(document())
        self.draining = False

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/models", self.models),
            web.get("/v1/models/{id:.+}", self.model),
            web.get("/v1/traces/{id}", self.trace),
            web.get("/livez", self.livez),
            web.get("/readyz", self.readyz),
            web.get("/openapi.json", self.openapi),
        ]

    async def models(self, request: web.Request) -> web.Response:
        """``GET /v1/models``."""
        return json_response(ModelList(data=await self._models.entries()))

    async def model(self, request: web.Request) -> web.Response:
        """``GET /v1/models/{id}``."""
        return json_response(await self._models.entry(request.match_info["id"]))

    async def trace(self, request: web.Request) -> web.Response:
        """``GET /v1/traces/{id}``: a trace id or a request id, answered by the recorder."""
        query = TraceQuery(id=request.match_info["id"], principal=request[PRINCIPAL])
        if not _TRACE_ID.fullmatch(query.id):
            raise NotFound("trace.not_found", "no such trace", param="id")
        timeout = self._config.trace_timeout_seconds
        data = await self._bus.request(names.SUBJECT_TRACE_GET, codec.encode(query), timeout)
        reply = codec.decode(data, TRACE_REPLY)
        if isinstance(reply, Failure):
            raise from_failure(reply)
        return json_response(reply)

    async def livez(self, request: web.Request) -> web.Response:
        return json_response(Alive())

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
        return json_response(Ready(models=tuple(entry.id for entry in entries)))

    async def openapi(self, request: web.Request) -> web.Response:
        """``GET /openapi.json``: these endpoints, described."""
        return web.Response(body=self._description, content_type="application/json")
