"""Errors in OpenAI's shape: ``{"error": {"type", "message", "code", "param"}}`` with the right status, on every path.

Input: any exception of a handler. Output: a response. Texts come from our own errors; what is not ours is logged
and answered as an internal error. Types by status follow the Moonshot API.
"""

import logging
import math
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from schemas import codec
from schemas.failure import Failure
from services.gateway.standing import QuotaExceeded, Standing
from shared.errors import MoontideError, internal_failure

log = logging.getLogger(__name__)

_TYPES = {
    401: "invalid_authentication_error",
    403: "permission_denied_error",
    404: "resource_not_found_error",
    429: "engine_overloaded_error",
    499: "client_closed_request",
    500: "server_error",
    503: "server_unavailable",
}


QUOTA_CODES = "quota."
"""Of refusals that are about the sender, not about how busy we are."""


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    message: str
    code: str
    param: str | None = None


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    error: ErrorDetail


def error_body(failure: Failure) -> ErrorBody:
    fallback = "invalid_request_error" if failure.status < 500 else "server_error"
    kind = _TYPES.get(failure.status, fallback)
    if failure.code == "incorrect_api_key":
        kind = "incorrect_api_key_error"
    elif failure.code.startswith(QUOTA_CODES):
        kind = "rate_limit_reached_error"
    return ErrorBody(error=ErrorDetail(type=kind, message=failure.message, code=failure.code, param=failure.param))


def to_failure(error: BaseException) -> Failure:
    """What the outside hears of an exception."""
    return error.to_failure() if isinstance(error, MoontideError) else internal_failure()


def error_response(failure: Failure) -> web.Response:
    response = json_response(error_body(failure), status=failure.status)
    if failure.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(failure.retry_after_seconds)))
    if failure.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _over_quota(error: QuotaExceeded) -> web.Response:
    response = error_response(error.to_failure())
    response.headers.update(rate_limit_headers(error.standing))
    if error.hopeless:
        response.headers["X-Should-Retry"] = "false"  # OpenAI's clients would try again otherwise
    return response


def rate_limit_headers(standing: Standing) -> dict[str, str]:
    """Moonshot's names. Reset: seconds until the whole limit is free again."""
    return {
        "X-RateLimit-Limit": str(standing.limit),
        "X-RateLimit-Remaining": str(standing.remaining),
        "X-RateLimit-Reset": str(math.ceil(standing.reset_seconds)),
    }


def json_response(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=codec.encode_json(value), status=status, content_type="application/json")


@web.middleware
async def errors_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever a handler raises, before the first byte of a response, as an error body."""
    try:
        return await handler(request)
    except QuotaExceeded as error:
        return _over_quota(error)
    except MoontideError as error:
        return error_response(error.to_failure())
    except web.HTTPException as error:
        return _http_error(request, error)
    except ConnectionError:
        raise
    except Exception:
        log.exception("request failed", extra={"path": request.path})
        return error_response(internal_failure())


def _http_error(request: web.Request, error: web.HTTPException) -> web.Response:
    """aiohttp's own refusals: no such path (404), wrong method (405), body too large (413)."""
    phrase = HTTPStatus(error.status).phrase
    response = error_response(
        Failure(
            code=phrase.lower().replace(" ", "_"),
            message=f"{request.method} {request.path}: {phrase.lower()}",
            status=error.status,
        )
    )
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response
