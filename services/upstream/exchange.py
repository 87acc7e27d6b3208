"""One request to an endpoint, with retries and circuit breaker, until an answer is complete or time is up.

Input: a request body and the ``Answer`` to fill. Output: the filled answer, or the ``Fault`` that ended the last
attempt. It must not know what the request asks.
"""

import random
from contextlib import aclosing
from dataclasses import dataclass, field

from schemas.request import RequestContext
from schemas.telemetry import (
    ATTR_ATTEMPT_NUMBER,
    ATTR_FAILURE_CODE,
    ATTR_HTTP_STATUS,
    ATTR_UPSTREAM_DETAIL,
    SPAN_ENDPOINT,
)
from services.upstream.answer import Answer
from services.upstream.breaker import Breaker
from services.upstream.endpoint import Endpoint
from services.upstream.faults import Fault, broken
from services.upstream.retry import RetryPolicy, wait_seconds
from services.upstream.translate import read_piece
from shared.clock import Clock
from shared.errors import Unavailable
from shared.telemetry.tracing import Telemetry


@dataclass(frozen=True)
class Exchange:
    endpoint: Endpoint
    breaker: Breaker
    policy: RetryPolicy
    telemetry: Telemetry
    clock: Clock
    chance: random.Random = field(default_factory=random.Random)

    def refuse_while_resting(self) -> None:
        """Raises Unavailable with a retry-after while the circuit is open."""
        blocked = self.breaker.blocked_seconds(self.clock.monotonic_seconds())
        if blocked > 0:
            raise _resting(blocked)

    async def run(self, context: RequestContext, body: bytes, answer: Answer, *, stream: bool) -> None:
        """Raises Fault when no further attempt is made."""
        last: Fault | None = None
        for number in range(1, self.policy.max_retries + 2):
            blocked = self.breaker.start(self.clock.monotonic_seconds())
            if blocked > 0:
                raise last or Fault(_resting(blocked), transient=False, unhealthy=False)
            try:
                return await self._attempt(body, answer, stream, number)
            except Fault as fault:
                last = fault
            await self._wait(context, last, number, answer)
        raise AssertionError("the last attempt is never waited for")

    async def _wait(self, context: RequestContext, fault: Fault, number: int, answer: Answer) -> None:
        """Until the next attempt. Raises the fault when there is none."""
        wait = wait_seconds(
            self.policy,
            fault,
            number - 1,
            repeatable=answer.may_begin_again,
            remaining_seconds=context.deadline_unix_seconds - self.clock.unix_seconds(),
            chance=self.chance.random(),
        )
        if wait is None:
            lost = fault.transient and not answer.may_begin_again
            raise _interrupted(fault) if lost else fault
        await self.clock.sleep(wait)

    async def _attempt(self, body: bytes, answer: Answer, stream: bool, number: int) -> None:
        answer.begin()
        with self.telemetry.span(SPAN_ENDPOINT, kind="client", attributes={ATTR_ATTEMPT_NUMBER: number}) as span:
            try:
                await self._receive(body, answer, stream)
            except Fault as fault:
                span.set_attribute(ATTR_FAILURE_CODE, fault.error.code)
                span.set_attribute(ATTR_UPSTREAM_DETAIL, self.endpoint.key.redact(fault.detail))
                if fault.status is not None:
                    span.set_attribute(ATTR_HTTP_STATUS, fault.status)
                self._report(fault)
                raise
            except BaseException:
                self.breaker.abandoned()
                raise
            self.breaker.succeeded()

    async def _receive(self, body: bytes, answer: Answer, stream: bool) -> None:
        try:
            async with aclosing(self.endpoint.ask(body, stream=stream)) as batches:
                async for events in batches:
                    await self._take(events, answer)
        except Fault:
            if not answer.complete:  # what breaks behind the finish reason takes nothing from the answer
                raise
        answer.end()

    async def _take(self, events: list[bytes], answer: Answer) -> None:
        """What arrived together goes on together; what came before a damaged event goes on as well."""
        try:
            for data in events:
                answer.take(read_piece(data, self.endpoint.key.redact))
        except Fault:
            await answer.flush()
            raise
        await answer.flush()

    def _report(self, fault: Fault) -> None:
        if fault.unhealthy:
            self.breaker.failed_at(self.clock.monotonic_seconds())
        else:
            self.breaker.succeeded()


def _resting(seconds: float) -> Unavailable:
    text = "the model's endpoint failed repeatedly and is left alone for a moment"
    return Unavailable("upstream.resting", text, retry_after_seconds=round(seconds, 3))


def _interrupted(fault: Fault) -> Fault:
    text = f"the answer was interrupted and cannot be continued: {fault.error.message}"
    return broken("interrupted", text, transient=False, detail=fault.detail)
