"""Who sends a request, and the id that it is answered under: put on the request before its handler runs.

Input: headers. Output: ``request[PRINCIPAL]``, ``request[REQUEST_ID]`` and the ``x-request-id`` header.
"""

import secrets

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from schemas.request import Principal
from services.gateway.keys import Keys

PRINCIPAL = web.RequestKey("principal", Principal)
REQUEST_ID = web.RequestKey("request_id", str)
CHAT_PATH = "/v1/chat/completions"
OPEN_PATHS = frozenset({"/livez", "/readyz", "/openapi.json"})
"""Probes and the description need no key."""


def identity_middleware(keys: Keys) -> Middleware:
    @web.middleware
    async def identify(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in OPEN_PATHS:
            request[PRINCIPAL] = keys.principal(request.headers.get("Authorization"))
        return await handler(request)

    return identify


@web.middleware
async def request_id_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    prefix = "chatcmpl" if request.path == CHAT_PATH else "req"
    request[REQUEST_ID] = f"{prefix}-{secrets.token_hex(16)}"
    return await handler(request)


async def add_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """For ``on_response_prepare``: every response says its id, errors and streams included."""
    request_id = request.get(REQUEST_ID)
    if request_id is not None:
        response.headers["x-request-id"] = request_id
