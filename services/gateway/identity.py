"""Who sends a request, whether it has one left, and the id that it is answered under: known before its handler runs.

Input: headers. Output: ``request[PRINCIPAL]``, ``request[REQUEST_ID]``, headers ``x-request-id`` and ``X-RateLimit-*``.
"""

import secrets

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from schemas.request import Principal
from schemas.telemetry import ATTR_KEY_ID, ATTR_REQUEST_ID, ATTR_TENANT, AttributeValue
from services.gateway.error_body import rate_limit_headers
from services.gateway.keys import Keys
from services.gateway.open_requests import OpenRequests
from services.gateway.quotas import Quotas
from services.gateway.standing import Standing

PRINCIPAL = web.RequestKey("principal", Principal)
REQUEST_ID = web.RequestKey("request_id", str)
RUN_ID = web.RequestKey("run_id", str)
"""Of a run that the request began."""
STANDING = web.RequestKey("standing", Standing)
CHAT_PATH = "/v1/chat/completions"
OPEN_PATHS = frozenset({"/livez", "/readyz", "/openapi.json"})
"""Probes and the description need no key."""


def span_attributes(request: web.Request) -> dict[str, AttributeValue]:
    """Of the span that a handler opens: whose it is."""
    principal = request[PRINCIPAL]
    return {ATTR_REQUEST_ID: request[REQUEST_ID], ATTR_TENANT: principal.tenant, ATTR_KEY_ID: principal.key_id}


def identity_middleware(keys: Keys, open_requests: OpenRequests) -> Middleware:
    @web.middleware
    async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN_PATHS:
            return await handler(request)
        request[PRINCIPAL] = keys.principal(request.headers.get("Authorization"))
        with open_requests.holding(request):
            return await handler(request)

    return identify


def quota_middleware(quotas: Quotas) -> Middleware:
    """What begins work (POST) is a request of the minute, and holds a place until it is answered to its last byte."""

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        principal = request.get(PRINCIPAL)
        if principal is None or request.method != "POST":
            return await handler(request)
        with quotas.request(principal) as standing:
            if standing is not None:
                request[STANDING] = standing
            return await handler(request)

    return admit


@web.middleware
async def request_id_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    prefix = "chatcmpl" if request.path == CHAT_PATH else "req"
    request[REQUEST_ID] = f"{prefix}-{secrets.token_hex(16)}"
    return await handler(request)


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """For ``on_response_prepare``: every response says its id and what is left, errors and streams included."""
    request_id = request.get(REQUEST_ID)
    if request_id is not None:
        response.headers["x-request-id"] = request_id
    if RUN_ID in request:
        response.headers["x-moontide-run-id"] = request[RUN_ID]
    standing = request.get(STANDING)
    if standing is not None:
        for name, value in rate_limit_headers(standing).items():
            response.headers.setdefault(name, value)
