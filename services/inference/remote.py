"""A shard in another process: one call held open over the bus. Its loss is noticed by beats, within a second.

Input: forwards and wanted media. Output: what the shard answers, or ``ShardLost``. After a loss the call is opened
again, at any shard of the model that is free and of the same numerics class. It must not know pages or scheduling.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

from schemas import names
from schemas.codec import encode
from schemas.generation import MediaSpan
from schemas.request import RequestContext
from schemas.shards import (
    Forward,
    ForwardDone,
    ForwardFailed,
    MediaHeld,
    MediaMissing,
    MediaWanted,
    ShardItem,
    ShardOpened,
    ShardReady,
)
from services.inference.link import ShardLost
from shared.bus.interface import Bus
from shared.calls.follow import follow
from shared.calls.interface import CallPolicy, CallTarget
from shared.clock import Clock
from shared.errors import MoontideError, Unavailable, from_failure

SHARD_POLICY = CallPolicy(beat_seconds=0.2, silence_seconds=0.8, admission_seconds=0.8, recovery_seconds=0.0)
"""No recovery inside a call: each loss is the engine's to know."""
LIFETIME_SECONDS = 10 * 365 * 24 * 3600.0
REPEAT_SECONDS = 1.0
"""A message without an answer is sent again: the bus delivers at most once."""
RETRY_SECONDS = 0.1

Waiter = asyncio.Future[ShardItem]

log = logging.getLogger("inference")


class RemoteShard:
    def __init__(self, bus: Bus, clock: Clock, model: str, *, patience_seconds: float = 20.0) -> None:
        self._bus, self._clock, self._model, self._patience = bus, clock, model, patience_seconds
        self._about: ShardReady | None = None
        self._fingerprint: str | None = None
        self._connected = asyncio.Event()
        self._waiters: dict[int | str, Waiter] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The call is held while entered."""
        task = asyncio.create_task(self._run(), name="shard-call")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def ready(self) -> ShardReady:
        try:
            async with asyncio.timeout(self._patience):
                await self._connected.wait()
        except TimeoutError as error:
            raise Unavailable("shard.missing", f"no shard serves {self._model}", retry_after_seconds=1.0) from error
        assert self._about is not None
        return self._about

    async def execute(self, forward: Forward) -> ForwardDone:
        item = await self._ask(forward.number, forward)
        if isinstance(item, ForwardFailed):
            raise from_failure(item.failure)
        assert isinstance(item, ForwardDone)
        return item

    async def fetch(self, key: str, span: MediaSpan) -> None:
        item = await self._ask(key, MediaWanted(key=key, span=span))
        if isinstance(item, MediaMissing):
            raise from_failure(item.failure)

    async def _ask(self, key: int | str, message: msgspec.Struct) -> ShardItem:
        if self._about is None:
            raise ShardLost
        subject, data = names.shard_work(self._about.token), encode(message)
        waiter = self._waiters.setdefault(key, asyncio.get_running_loop().create_future())
        try:
            while not waiter.done():
                with suppress(Unavailable):
                    await self._bus.publish(subject, data)
                await asyncio.wait({waiter}, timeout=REPEAT_SECONDS)
            return waiter.result()
        finally:
            self._waiters.pop(key, None)

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except MoontideError as error:
                log.info("no shard", extra={"code": error.code})
            finally:
                self._lose()
            await self._clock.sleep(RETRY_SECONDS)

    async def _follow(self) -> None:
        deadline = self._clock.unix_seconds() + LIFETIME_SECONDS
        context = RequestContext(request_id=self._bus.instance, deadline_unix_seconds=deadline)
        target = CallTarget(subject=names.shard(self._model), context=context, policy=SHARD_POLICY)
        body = ShardOpened(engine=self._bus.instance)
        async for item in follow(self._bus, self._clock, target, lambda: body, ShardItem):
            self._take(item)

    def _take(self, item: ShardItem) -> None:
        match item:
            case ShardReady():
                self._accept(item)
            case ForwardDone(number=key) | ForwardFailed(number=key) | MediaHeld(key=key) | MediaMissing(key=key):
                waiter = self._waiters.get(key)
                if waiter is not None and not waiter.done():
                    waiter.set_result(item)

    def _accept(self, about: ShardReady) -> None:
        """Answers that have begun must not change: another numerics class is refused."""
        if self._fingerprint not in (None, about.system_fingerprint):
            raise Unavailable("shard.other_numerics", f"a shard of class {about.system_fingerprint} was refused")
        self._fingerprint, self._about = about.system_fingerprint, about
        self._connected.set()

    def _lose(self) -> None:
        self._about = None
        self._connected.clear()
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(ShardLost())
