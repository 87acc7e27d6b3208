"""The caller of a call: makes attempts until the answer is complete, and yields each item once.

In: where to call and a function that says what is still wanted. Out: decoded items in order. Knows nothing of what the
items mean; everything that decides lives in ``attempt.py``.
"""

import asyncio
import logging
import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import msgspec

from schemas import names
from schemas.calls import (
    CallAdmitted,
    CallBeat,
    CallCancelled,
    CallEnded,
    CallItem,
    CallOpened,
    CallOutput,
    CallReply,
)
from schemas.codec import decode, encode, raw
from schemas.failure import Failure
from shared.bus.interface import Bus, Subscription
from shared.calls.attempt import Attempts, Sequence, Step, Watch
from shared.calls.interface import CallPolicy, CallTarget
from shared.clock import Clock
from shared.errors import DeadlineExceeded, Internal, MoontideError, Unavailable, from_failure

log = logging.getLogger("calls")

MAX_PENDING_ITEMS = 4096
"""What a slow reader may leave unread; beyond it the attempt is given up, and the next one resumes."""


async def follow(
    bus: Bus, clock: Clock, target: CallTarget, make_body: Callable[[], msgspec.Struct], item_type: Any
) -> AsyncGenerator[Any, None]:
    """Items of ``item_type``, in order, until the callee ended well. ``make_body`` is called before each attempt.

    Raises what the callee refused or failed with unless trying again can help; DeadlineExceeded at the context's
    deadline; the last error when ``CallPolicy`` allows no further attempt. Closing it cancels the call.
    """
    attempts = Attempts(target.policy, clock.monotonic_seconds(), random.Random())
    while True:
        attempt = _Attempt(bus, clock, target, attempts)
        try:
            async with aclosing(attempt.items(make_body(), item_type)) as items:
                async for item in items:
                    yield item
            return
        except MoontideError as error:
            attempts.failed(attempt.last_life)
            wait = _wait_or_raise(error, clock, target, attempts)
            log.info("attempt failed", extra={"subject": target.subject, "code": error.code, "wait_seconds": wait})
            await clock.sleep(wait)


def _wait_or_raise(error: MoontideError, clock: Clock, target: CallTarget, attempts: Attempts) -> float:
    """Seconds until the next attempt, or the error that ends the call."""
    if not error.retryable:
        raise error
    if error.code == "bus.no_responder" and attempts.number == 1 and not target.policy.wait_for_first_responder:
        raise error
    wait = attempts.wait_seconds(error.retry_after_seconds)
    if attempts.is_exhausted(clock.monotonic_seconds() + wait):
        raise error
    if wait >= _left_seconds(clock, target):
        raise _late() from error
    return wait


def _left_seconds(clock: Clock, target: CallTarget) -> float:
    return target.context.deadline_unix_seconds - clock.unix_seconds()


def _late() -> DeadlineExceeded:
    return DeadlineExceeded("call.deadline", "the deadline passed before the answer was complete")


class _Attempt:
    """One attempt: an id, a subject and a callee of its own."""

    def __init__(self, bus: Bus, clock: Clock, target: CallTarget, attempts: Attempts) -> None:
        self._bus = bus
        self._clock = clock
        self._target = target
        self._policy: CallPolicy = target.policy
        self._attempts = attempts
        self._id = uuid.uuid4().hex
        self._watch = Watch(target.policy.silence_seconds, clock.monotonic_seconds())
        self._over = False
        self._closed = False

    @property
    def last_life(self) -> float:
        return self._watch.last_life

    async def items(self, body: msgspec.Struct, item_type: Any) -> AsyncGenerator[Any, None]:
        if self._left() <= 0:
            raise _late()
        output = await self._bus.subscribe(
            names.attempt_output(self._id), max_pending=MAX_PENDING_ITEMS, confirmed=False
        )
        try:
            await self._open(body)
            async with self._beating(), aclosing(self._read(output)) as bodies:
                async for encoded in bodies:
                    yield _decode(encoded, item_type)
        finally:
            await self._close(output)

    async def _open(self, body: msgspec.Struct) -> None:
        """Raises what the callee refused with, or Unavailable when nobody answered."""
        wait = min(self._policy.admission_seconds, self._left())
        if wait <= 0:
            raise _late()
        opened = CallOpened(
            attempt_id=self._id,
            attempt_number=self._attempts.opened(),
            context=self._target.context,
            admit_until_unix_seconds=self._clock.unix_seconds() + wait,
            body=raw(body),
        )
        reply = _decode(await self._bus.request(self._target.subject, encode(opened), wait), CallReply)
        if isinstance(reply, Failure):
            self._over = True
            raise from_failure(reply)
        assert isinstance(reply, CallAdmitted)
        now = self._clock.monotonic_seconds()
        self._attempts.admitted(now)
        self._watch.heard(now)

    async def _read(self, output: Subscription) -> AsyncGenerator[msgspec.Raw, None]:
        """Bodies of the items until the end. Raises the callee's failure, or Unavailable for a gap or silence."""
        sequence = Sequence()
        while True:
            message: CallOutput = _decode(await self._next(output), CallOutput)
            self._watch.heard(self._clock.monotonic_seconds())
            step = sequence.step(message)
            if step is Step.GAP:
                raise Unavailable("call.gap", "a part of the answer was lost")
            if step is Step.TAKE and isinstance(message, CallItem):
                self._attempts.progressed()
                yield message.body
                self._watch.heard(self._clock.monotonic_seconds())  # our reader's time is not the callee's silence
            if step is Step.END and isinstance(message, CallEnded):
                self._over = True
                if message.failure is not None:
                    raise from_failure(message.failure)
                return

    async def _next(self, output: Subscription) -> bytes:
        silence = self._watch.left_seconds(self._clock.monotonic_seconds())
        left = self._left()
        if left <= 0:
            raise _late()
        data = await output.next(min(silence, left))
        if data is not None:
            return data
        if left <= silence:
            raise _late()
        raise Unavailable("call.silent", "the service fell silent")

    @asynccontextmanager
    async def _beating(self) -> AsyncIterator[None]:
        beating = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beating.cancel()

    async def _beat(self) -> None:
        beat = encode(CallBeat())
        await self._clock.sleep(self._policy.beat_seconds)  # the request itself was a sign of life
        while not self._closed:
            with suppress(MoontideError):
                await self._bus.publish(names.attempt_control(self._id), beat)
            await self._clock.sleep(self._policy.beat_seconds)

    async def _close(self, output: Subscription) -> None:
        """Tell the callee unless it is done; missing beats tell it for certain."""
        self._closed = True
        with suppress(MoontideError):
            if not self._over:
                await self._bus.publish(names.attempt_control(self._id), encode(CallCancelled()))
        with suppress(MoontideError):
            await output.close()

    def _left(self) -> float:
        return _left_seconds(self._clock, self._target)


def _decode(data: bytes | msgspec.Raw, kind: Any) -> Any:
    """Raises Internal: caller and callee are of incompatible versions, and another attempt does not change that."""
    try:
        return decode(data, kind)
    except msgspec.DecodeError as error:
        raise Internal("call.undecodable", "a service answered in words that are not understood") from error
