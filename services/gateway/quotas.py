"""What a key and its tenant may use: requests, tokens, places; refused with when to come back.

Input: who asks, and how much. Output: a context in which it is admitted, or ``QuotaExceeded``. Counts are this
gateway's own, except for tokens of a day, to which ``DailyUse`` adds what all others were charged with. It must not
know HTTP.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from schemas.request import Principal
from services.gateway.daily_use import DailyUse
from services.gateway.keys import Keys
from services.gateway.quota import MINUTE_SECONDS, Day, Window, seconds_left_of_day
from services.gateway.standing import QuotaExceeded, Standing
from shared.clock import Clock
from shared.keys import Quota

PLACE_RETRY_SECONDS = 1.0
RUN_RETRY_SECONDS = 10.0
SPARE_METERS = 64

CountRuns = Callable[[], Awaitable[Mapping[str, int]]]
"""Runs of the tenant that have not ended, by key id."""


@dataclass
class Meter:
    requests: Window = field(default_factory=Window)
    tokens: Window = field(default_factory=Window)
    day: Day = field(default_factory=Day)
    places: int = 0


@dataclass(frozen=True)
class Account:
    """A key or a tenant."""

    who: str
    """As a person calls it."""
    key_id: str
    """Empty for a tenant: all its keys."""
    quota: Quota
    meter: Meter

    def left_today(self, used_elsewhere: int, unix_seconds: float) -> int | None:
        """Tokens; None: without limit."""
        limit = self.quota.tokens_per_day
        return None if limit is None else limit - self.meter.day.used(unix_seconds) - used_elsewhere

    def total(self, by_key: Mapping[str, int]) -> int:
        return by_key.get(self.key_id, 0) if self.key_id else sum(by_key.values())


@dataclass
class Reservation:
    """Tokens that were counted at admission."""

    units: int
    counted: list[tuple[Meter, int, int]] = field(default_factory=list)
    """(meter, slot of the minute, number of the day)."""
    charge: Callable[[], int] = lambda: 0
    """Asked in the end: what it came to."""

    def settle(self) -> None:
        more = self.charge() - self.units
        for meter, slot, day in self.counted:
            meter.tokens.correct(slot, more)
            meter.day.correct(day, more)


class Quotas:
    def __init__(self, keys: Keys, clock: Clock, others: DailyUse) -> None:
        self._keys = keys
        self._clock = clock
        self._others = others
        self._meters: dict[tuple[str, str], Meter] = {}
        self._submitting: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @contextmanager
    def request(self, principal: Principal) -> Iterator[Standing | None]:
        """One request of the minute, and a place until the block ends. Yields how the tighter minute stands."""
        accounts = self._accounts(principal)
        now = self._clock.monotonic_seconds()
        for account in accounts:
            self._check_place(account)
            _check_window(account, "requests_per_minute", account.meter.requests, 1, now)
        for account in accounts:
            account.meter.requests.add(1, now)
            account.meter.places += 1
        try:
            yield _tightest(accounts, now)
        finally:
            for account in accounts:
                account.meter.places -= 1

    @asynccontextmanager
    async def tokens(self, principal: Principal, units: int) -> AsyncIterator[Reservation]:
        """Counts ``units`` tokens, and settles them with the true number when the block ends."""
        accounts = self._accounts(principal)
        others = await self._used_elsewhere(principal, accounts)
        now, today = self._clock.monotonic_seconds(), self._clock.unix_seconds()
        for account in accounts:
            _check_window(account, "tokens_per_minute", account.meter.tokens, units, now)
            _check_day(account, account.total(others), units, today)
        counted = [
            (item.meter, item.meter.tokens.add(units, now), item.meter.day.add(units, today)) for item in accounts
        ]
        reserved = Reservation(units, counted)
        try:
            yield reserved
        finally:
            reserved.settle()

    @asynccontextmanager
    async def run(self, principal: Principal, count: CountRuns) -> AsyncIterator[int | None]:
        """A new run is submitted inside the block, one at a time of each tenant: ``count`` is asked before. Yields what
        is left of the tokens of the day, which the run's own budget must not exceed; None: without limit."""
        accounts = self._accounts(principal)
        if not any(account.quota.concurrent_runs is not None for account in accounts):
            yield await self._tokens_left(principal, accounts)
            return
        async with self._submitting.setdefault(principal.tenant, asyncio.Lock()):
            running = await count()
            for account in accounts:
                _check_runs(account, account.total(running))
            yield await self._tokens_left(principal, accounts)

    async def _tokens_left(self, principal: Principal, accounts: list[Account]) -> int | None:
        """At least one. Raises QuotaExceeded."""
        others = await self._used_elsewhere(principal, accounts)
        now = self._clock.unix_seconds()
        for account in accounts:
            _check_day(account, account.total(others), 1, now)
        left = [account.left_today(account.total(others), now) for account in accounts]
        return min((tokens for tokens in left if tokens is not None), default=None)

    async def _used_elsewhere(self, principal: Principal, accounts: list[Account]) -> Mapping[str, int]:
        limited = any(account.quota.tokens_per_day is not None for account in accounts)
        return await self._others.tokens_today(principal) if limited else {}

    def _check_place(self, account: Account) -> None:
        limit = account.quota.concurrent_requests
        if limit is not None and account.meter.places >= limit:
            raise _exceeded(account, "concurrent_requests", limit, 0, PLACE_RETRY_SECONDS, PLACE_RETRY_SECONDS)

    def _accounts(self, principal: Principal) -> list[Account]:
        """Those that have a quota."""
        key, tenant = self._keys.quotas(principal)
        found = []
        if key != Quota():
            meter = self._meter("key", principal.key_id)
            found.append(Account(f"key {principal.key_id}", principal.key_id, key, meter))
        if tenant != Quota():
            found.append(Account(f"tenant {principal.tenant}", "", tenant, self._meter("tenant", principal.tenant)))
        return found

    def _meter(self, kind: str, name: str) -> Meter:
        meter = self._meters.get((kind, name))
        if meter is None:
            if len(self._meters) > 2 * self._keys.size + SPARE_METERS:
                self._meters = {place: kept for place, kept in self._meters.items() if self._keys.knows(*place)}
            meter = self._meters[kind, name] = Meter()
        return meter


def _check_window(account: Account, limit_name: str, window: Window, units: int, now: float) -> None:
    limit: int | None = getattr(account.quota, limit_name)
    if limit is None:
        return
    wait = window.wait_seconds(units, limit, now)
    if wait > 0:
        left = max(0, limit - window.used(now))
        raise _exceeded(account, limit_name, limit, left, window.reset_seconds(now), wait, units)


def _check_day(account: Account, used_elsewhere: int, units: int, unix_seconds: float) -> None:
    limit, left = account.quota.tokens_per_day, account.left_today(used_elsewhere, unix_seconds)
    if limit is not None and left is not None and units > left:
        wait = math.inf if units > limit else seconds_left_of_day(unix_seconds)
        reset = seconds_left_of_day(unix_seconds)
        raise _exceeded(account, "tokens_per_day", limit, max(0, left), reset, wait, units)


def _check_runs(account: Account, running: int) -> None:
    limit = account.quota.concurrent_runs
    if limit is not None and running >= limit:
        raise _exceeded(account, "concurrent_runs", limit, 0, RUN_RETRY_SECONDS, RUN_RETRY_SECONDS)


def _exceeded(
    account: Account, limit_name: str, limit: int, left: int, reset: float, wait: float, units: int = 1
) -> QuotaExceeded:
    kind = limit_name.replace("_", " ")
    if math.isinf(wait):
        message = f"this needs {units} of {kind}, and {account.who} has {limit} in all: ask for less"
        return QuotaExceeded(
            f"quota.{limit_name}", message, Standing(limit, left, reset), max(reset, MINUTE_SECONDS), hopeless=True
        )
    message = f"{account.who} has used its {limit} {kind}; try again in {max(1, math.ceil(wait))} s"
    return QuotaExceeded(f"quota.{limit_name}", message, Standing(limit, left, reset), wait, hopeless=False)


def _tightest(accounts: list[Account], now: float) -> Standing | None:
    standings = [
        Standing(limit, max(0, limit - account.meter.requests.used(now)), account.meter.requests.reset_seconds(now))
        for account in accounts
        if (limit := account.quota.requests_per_minute) is not None
    ]
    return min(standings, key=lambda standing: standing.remaining, default=None)
