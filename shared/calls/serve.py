"""The callee of calls: admission, then a task per call that runs the handler under beats, silence and deadline.

In: a handler. Out: its items on each attempt's own subject, and a last message that says how it ended. Knows nothing
of what is computed.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from schemas import names
from schemas.calls import CallAdmitted, CallBeat, CallCancelled, CallControl, CallEnded, CallItem, CallOpened
from schemas.codec import decode, encode, raw
from schemas.failure import Failure
from shared.bus.interface import Bus, Subscription
from shared.calls.attempt import Watch
from shared.calls.interface import AdmissionCheck, CallHandler, CallPolicy
from shared.clock import Clock
from shared.errors import (
    BadInput,
    Busy,
    Cancelled,
    DeadlineExceeded,
    MoontideError,
    Unavailable,
    internal_failure,
)

log = logging.getLogger("calls")

BUSY_RETRY_SECONDS = 0.5
DRAIN_RETRY_SECONDS = 0.1
STOP_SECONDS = 5.0
"""How long a cancelled handler may take to end before it is left behind."""


@asynccontextmanager
async def serve(
    bus: Bus,
    clock: Clock,
    *,
    name: str,
    subject: str,
    handler: CallHandler,
    body_type: Any,
    max_calls: int,
    version: str,
    metadata: Mapping[str, str] | None = None,
    check: AdmissionCheck | None = None,
    policy: CallPolicy | None = None,
    drain_seconds: float = 10.0,
) -> AsyncIterator[str]:
    """Admit calls on ``subject`` as the micro service ``name``; yields its instance id.

    ``body_type`` is a struct or a union of tagged structs. On exit no call is admitted, running ones may take
    ``drain_seconds``, and the rest end with a retryable failure, so that their callers go on elsewhere.
    """
    server = _Server(bus, clock, handler, body_type, check, max_calls, policy or CallPolicy())
    try:
        async with bus.offer(name, {subject: server.admit}, version=version, metadata=metadata or {}) as instance:
            server.instance = instance
            try:
                yield instance
            finally:
                server.draining = True
    finally:
        await server.drain(drain_seconds)


class _Server:
    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        handler: CallHandler,
        body_type: Any,
        check: AdmissionCheck | None,
        max_calls: int,
        policy: CallPolicy,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._handler = handler
        self._body_type = body_type
        self._check = check
        self._max_calls = max_calls
        self._policy = policy
        self._calls: dict[str, _Call] = {}
        self.instance = ""
        self.draining = False

    async def admit(self, data: bytes) -> bytes:
        """The reply to one ``CallOpened``: ``CallAdmitted``, or why not."""
        try:
            return encode(await self._admit(data))
        except MoontideError as error:
            return encode(error.to_failure())
        except Exception:
            log.exception("admission failed")
            return encode(internal_failure())

    async def _admit(self, data: bytes) -> CallAdmitted:
        opened: CallOpened = _decode(data, CallOpened)
        if opened.attempt_id not in self._calls:  # else it is a duplicate of a call that runs
            self._refuse(opened)
            body = _decode(opened.body, self._body_type)
            if self._check is not None:
                self._check(opened.context, body)
            await self._start(opened, body)
        return CallAdmitted(instance=self.instance)

    def _refuse(self, opened: CallOpened) -> None:
        if self._clock.unix_seconds() > opened.admit_until_unix_seconds:
            raise Unavailable("call.late", "the call was read after its caller had given up on it")
        if self.draining:
            raise Unavailable("call.draining", "the service is stopping", retry_after_seconds=DRAIN_RETRY_SECONDS)
        if len(self._calls) >= self._max_calls:
            raise Busy("call.busy", "the service is full", retry_after_seconds=BUSY_RETRY_SECONDS)

    async def _start(self, opened: CallOpened, body: Any) -> None:
        call = _Call(self._bus, self._clock, self._policy, opened)
        self._calls[opened.attempt_id] = call  # before the first await: it holds its place
        try:
            await call.start(self._handler, body)
        except BaseException:
            del self._calls[opened.attempt_id]
            raise
        call.task.add_done_callback(lambda _: self._calls.pop(opened.attempt_id, None))

    async def drain(self, seconds: float) -> None:
        tasks = {call.task for call in self._calls.values()}
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for call in list(self._calls.values()):
            stopping = Unavailable("call.draining", "the service stopped", retry_after_seconds=0.0)
            call.stop(stopping.to_failure())
        if remaining := {task for task in tasks if not task.done()}:
            await asyncio.wait(remaining, timeout=STOP_SECONDS + self._policy.silence_seconds)
        with suppress(MoontideError):
            await self._bus.flush()


class _Call:
    """One admitted attempt. What the handler gets as its ``CallWriter`` is this object."""

    def __init__(self, bus: Bus, clock: Clock, policy: CallPolicy, opened: CallOpened) -> None:
        self._bus = bus
        self._clock = clock
        self._policy = policy
        self._opened = opened
        self._output = names.attempt_output(opened.attempt_id)
        self._next_sequence = 0
        self._sending = asyncio.Lock()
        self._stopped = asyncio.Event()
        self._reason: Failure | None = None
        self.task: asyncio.Task[None]

    async def start(self, handler: CallHandler, body: Any) -> None:
        """Listening to the caller when this returns; the handler runs as a task."""
        # Ahead of the admission on the same connection, so that nothing the caller says after it is missed.
        control = await self._bus.subscribe(names.attempt_control(self._opened.attempt_id), confirmed=False)
        self.task = asyncio.create_task(self._run(handler, body, control), name=f"call-{self._opened.attempt_id}")

    def stop(self, reason: Failure) -> None:
        """End the call with ``reason``, unless it has ended or was stopped before."""
        self._reason = self._reason or reason
        self._stopped.set()

    async def send(self, item: msgspec.Struct) -> None:
        if self._reason is not None:
            raise Cancelled("call.cancelled", "nobody waits for this answer any more")
        async with self._sending:
            message = CallItem(sequence=self._next_sequence, body=raw(item))
            self._next_sequence += 1
            await self._bus.publish(self._output, encode(message))

    async def _run(self, handler: CallHandler, body: Any, control: Subscription) -> None:
        working = asyncio.ensure_future(handler(self._opened.context, body, self))
        stopped = asyncio.create_task(self._stopped.wait())
        watching = [asyncio.create_task(watch) for watch in (self._beat(), self._listen(control), self._expire())]
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
            await _cancel(working)
            await self._end(self._outcome(working))
        finally:
            for task in (working, stopped, *watching):
                task.cancel()
            with suppress(MoontideError):
                await control.close()

    def _outcome(self, working: "asyncio.Future[None]") -> Failure | None:
        error = None if not working.done() or working.cancelled() else working.exception()
        if working.done() and not working.cancelled() and error is None:
            return None
        if self._reason is not None:
            return self._reason
        if isinstance(error, MoontideError):
            return error.to_failure()
        log.error("call handler failed", exc_info=error, extra={"request_id": self._opened.context.request_id})
        return internal_failure()

    async def _end(self, failure: Failure | None) -> None:
        self.stop(failure or Cancelled("call.ended", "the call has ended").to_failure())
        ended = CallEnded(next_sequence=self._next_sequence, failure=failure)
        try:
            await self._bus.publish(self._output, encode(ended))
        except MoontideError as error:
            log.warning("end of a call lost", extra={"code": error.code})

    async def _beat(self) -> None:
        await self._clock.sleep(self._policy.beat_seconds)  # the admission itself was a sign of life
        while not self._stopped.is_set():
            with suppress(MoontideError):
                await self._bus.publish(self._output, encode(CallBeat(next_sequence=self._next_sequence)))
            await self._clock.sleep(self._policy.beat_seconds)

    async def _listen(self, control: Subscription) -> None:
        """Until the caller cancels or falls silent."""
        watch = Watch(self._policy.silence_seconds, self._clock.monotonic_seconds())
        try:
            while (data := await control.next(watch.left_seconds(self._clock.monotonic_seconds()))) is not None:
                if isinstance(_decode(data, CallControl), CallCancelled):
                    self.stop(Cancelled("call.cancelled", "the caller cancelled").to_failure())
                    return
                watch.heard(self._clock.monotonic_seconds())
        except MoontideError as error:
            log.warning("caller cannot be heard", extra={"code": error.code})
        self.stop(Unavailable("call.caller_silent", "the caller fell silent").to_failure())

    async def _expire(self) -> None:
        await self._clock.sleep(max(self._opened.context.deadline_unix_seconds - self._clock.unix_seconds(), 0.0))
        self.stop(DeadlineExceeded("call.deadline", "the deadline passed before the answer was complete").to_failure())


async def _cancel(working: "asyncio.Future[None]") -> None:
    """A handler that does not end when cancelled is left behind: its output reaches nobody."""
    if working.done():
        return
    working.cancel()
    done, _ = await asyncio.wait({working}, timeout=STOP_SECONDS)
    if not done:
        log.error("call handler does not stop")


def _decode(data: bytes | msgspec.Raw, kind: Any) -> Any:
    """Raises BadInput for what does not read as ``kind``."""
    try:
        return decode(data, kind)
    except msgspec.DecodeError as error:
        raise BadInput("call.malformed", "the call's message does not fit its contract") from error
