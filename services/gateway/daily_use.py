"""Tokens that a tenant's keys were charged with today by everybody else: other gateways, runs, the gateway before.

Input: a principal. Output: tokens by key id, as the recorder knows them, some seconds old. It must not know limits.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas import codec, names
from schemas.failure import Failure
from schemas.request import Principal
from schemas.telemetry import UsageListed, UsageQuery
from shared.bus.interface import Bus
from shared.clock import Clock
from shared.errors import MoontideError, from_failure

log = logging.getLogger(__name__)

FRESH_SECONDS = 10.0
TIMEOUT_SECONDS = 2.0
USAGE_REPLY: Any = UsageListed | Failure


@dataclass
class _Known:
    day: str
    asked_at: float
    tokens: Mapping[str, int]


class DailyUse:
    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Task[_Known]] = {}

    async def tokens_today(self, principal: Principal) -> Mapping[str, int]:
        """The first time of a day it waits for the recorder, afterwards an older answer serves while a new one is
        asked for. Where the recorder does not answer, what was known counts: work goes on without it."""
        known = self._known.get(principal.tenant)
        today = day_of(self._clock.unix_seconds())
        if known is None or known.day != today:
            return (await asyncio.shield(self._ask(principal, today))).tokens
        if self._clock.monotonic_seconds() - known.asked_at > FRESH_SECONDS:
            self._ask(principal, today)
        return known.tokens

    async def settle(self) -> None:
        """Ends what is being asked: part of a drain."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def _ask(self, principal: Principal, today: str) -> asyncio.Task[_Known]:
        tenant = principal.tenant
        if tenant not in self._asking:
            task = asyncio.create_task(self._asked(principal, today), name="usage of today")
            self._asking[tenant] = task
            task.add_done_callback(lambda _: self._asking.pop(tenant, None))
        return self._asking[tenant]

    async def _asked(self, principal: Principal, today: str) -> _Known:
        before = self._known.get(principal.tenant)
        tokens = before.tokens if before is not None and before.day == today else {}
        query = UsageQuery(principal=principal, first_day=today, last_day=today, without_instance=self._bus.instance)
        try:
            tokens = tokens_by_key(await ask_usage(self._bus, query, TIMEOUT_SECONDS))
        except MoontideError as error:
            log.warning("usage of today is not known", extra={"code": error.code, "tenant": principal.tenant})
        known = _Known(today, self._clock.monotonic_seconds(), tokens)
        self._known[principal.tenant] = known
        return known


async def ask_usage(bus: Bus, query: UsageQuery, timeout_seconds: float) -> UsageListed:
    """The recorder's answer. Raises what it refuses, and Unavailable when it is not there."""
    data = await bus.request(names.SUBJECT_USAGE_GET, codec.encode(query), timeout_seconds)
    try:
        reply = codec.decode(data, USAGE_REPLY)
    except msgspec.MsgspecError as error:
        raise MoontideError("usage.reply", "the recorder's answer cannot be read") from error
    if isinstance(reply, Failure):
        raise from_failure(reply)
    return reply


def tokens_by_key(listed: UsageListed) -> Counter[str]:
    found: Counter[str] = Counter()
    for row in listed.rows:
        found[row.key_id] += row.input_tokens + row.output_tokens
    return found


def day_of(unix_seconds: float) -> str:
    """``YYYY-MM-DD`` in UTC."""
    return datetime.fromtimestamp(unix_seconds, UTC).date().isoformat()
