"""HTTP handler of ``GET /v1/usage``: what the keys of the own tenant were charged with, by day and model.

Input: days. Output: sums, as the recorder keeps them. Answers that were broken off are in them by their length.
"""

from datetime import datetime

import msgspec
from aiohttp import web

from schemas.telemetry import UsageQuery, UsageRow
from services.gateway.daily_use import ask_usage, day_of
from services.gateway.error_body import json_response
from services.gateway.identity import PRINCIPAL
from services.gateway.quota import DAY_SECONDS
from shared.bus.interface import Bus
from shared.clock import Clock
from shared.errors import BadInput

DEFAULT_DAYS = 30
TIMEOUT_SECONDS = 5.0


class UsageObject(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "usage"
    day: str
    """In UTC."""
    tenant: str
    key_id: str
    model: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    """Of the prompt tokens."""
    completion_tokens: int
    total_tokens: int


class UsageList(msgspec.Struct, frozen=True, kw_only=True):
    object: str = "list"
    data: tuple[UsageObject, ...]
    has_more: bool = False
    """More rows than one answer holds: ask for fewer days."""


class UsageHandlers:
    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/usage", self.usage)]

    async def usage(self, request: web.Request) -> web.Response:
        """``GET /v1/usage?from=2026-01-01&to=2026-01-31``, both days included; the last thirty days by default."""
        now = self._clock.unix_seconds()
        query = UsageQuery(
            principal=request[PRINCIPAL],
            first_day=_day(request, "from", day_of(now - (DEFAULT_DAYS - 1) * DAY_SECONDS)),
            last_day=_day(request, "to", day_of(now)),
        )
        listed = await ask_usage(self._bus, query, TIMEOUT_SECONDS)
        data = tuple(_object(row) for row in listed.rows)
        return json_response(UsageList(data=data, has_more=listed.omitted_rows > 0))


def _day(request: web.Request, name: str, default: str) -> str:
    text = request.query.get(name, default)
    try:
        return datetime.strptime(text, "%Y-%m-%d").date().isoformat()
    except ValueError as error:
        raise BadInput("invalid_value", f"{name}: expected a day like 2026-01-31", param=name) from error


def _object(row: UsageRow) -> UsageObject:
    return UsageObject(
        day=row.day,
        tenant=row.tenant,
        key_id=row.key_id,
        model=row.model,
        requests=row.requests,
        prompt_tokens=row.input_tokens,
        cached_tokens=row.cached_tokens,
        completion_tokens=row.output_tokens,
        total_tokens=row.input_tokens + row.output_tokens,
    )
