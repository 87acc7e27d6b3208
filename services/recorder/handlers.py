"""What the recorder does with messages: keep a batch of spans, answer queries about traces and usage.

Input: bytes from the bus. Output: rows in the store; a ``Trace`` or ``Failure`` as bytes. It must not know the bus.
"""

import asyncio
import logging

import msgspec

from schemas import codec
from schemas.request import Principal
from schemas.telemetry import SpanMessage, Trace, TraceQuery, UsageQuery
from services.recorder import usage
from services.recorder.config import RecorderConfig
from services.recorder.store import SpanStore
from services.recorder.trace_tree import build_trace, sign_of_life, within
from shared.clock import Clock
from shared.errors import BadInput, MoontideError, NotFound

MAX_REPLY_BYTES = 768 * 1024
"""Below the broker's limit of one message (1 MiB)."""

MAX_UNIX_NANOSECONDS = 2**63 - 1

log = logging.getLogger("recorder")


async def record(store: SpanStore, config: RecorderConfig, clock: Clock, batch: list[bytes]) -> None:
    """Keep a batch of the spans log. What cannot be decoded is skipped: one sender must not stop the others."""
    now = unix_nanoseconds(clock)
    messages = decode_all(batch)
    await asyncio.to_thread(store.write, messages, now)
    heard_before, used_before = (now - int(age * 1e9) for age in (config.max_age_seconds, config.usage_max_age_seconds))
    deleted = await asyncio.to_thread(store.trim, config.max_bytes, heard_before, used_before)
    if deleted:
        log.info("old traces deleted", extra={"count": deleted})


async def answer_trace(store: SpanStore, clock: Clock, data: bytes) -> bytes:
    """``TraceQuery`` → ``Trace`` or ``Failure`` (404 when the principal has no trace or request of that id)."""
    try:
        query = codec.decode(data, TraceQuery)
        tenant = None if query.principal.tenant == Principal().tenant else query.principal.tenant
        trace = await asyncio.to_thread(read_trace, [store], query.id, unix_nanoseconds(clock), tenant)
        return codec.encode(within(trace, MAX_REPLY_BYTES))
    except msgspec.DecodeError:
        return codec.encode(BadInput("trace.query", "the message is not a trace query").to_failure())
    except MoontideError as error:
        return codec.encode(error.to_failure())


async def answer_usage(store: SpanStore, data: bytes) -> bytes:
    """``UsageQuery`` → ``UsageListed`` or ``Failure``."""
    try:
        query = usage.checked(codec.decode(data, UsageQuery))
        return codec.encode(await asyncio.to_thread(store.usage, query, MAX_REPLY_BYTES))
    except (msgspec.DecodeError, ValueError):
        return codec.encode(BadInput("usage.query", "the message is not a usage query").to_failure())
    except MoontideError as error:
        return codec.encode(error.to_failure())


def read_trace(stores: list[SpanStore], id: str, now_unix_nanoseconds: int, tenant: str | None = None) -> Trace:
    """The trace from everything that the stores hold of it, or of it for one tenant: where it has nothing there, it
    hears the same as of an id that nobody has. Raises NotFound (code ``trace.not_found``)."""
    trace_id = next((found for found in (store.find(id) for store in stores) if found), None)
    messages = [message for store in stores for message in store.messages(trace_id or "", tenant)]
    if trace_id is None or not messages:
        raise NotFound("trace.not_found", f"no trace is recorded for {id}", param="id")
    senders = {message.instance for message in messages}
    instances = {name: state for store in stores for name, state in store.instances(senders).items()}
    return build_trace(trace_id, messages, instances, now_unix_nanoseconds)


def decode_all(batch: list[bytes]) -> list[SpanMessage]:
    messages: list[SpanMessage] = []
    for data in batch:
        try:
            messages.append(_decode(data))
        except (msgspec.DecodeError, BadInput) as error:
            log.warning("not a span message", extra={"reason": str(error), "size_bytes": len(data)})
    return messages


def _decode(data: bytes) -> SpanMessage:
    message: SpanMessage = codec.decode(data, SpanMessage)  # type: ignore[arg-type]
    if not 0 <= sign_of_life(message).unix_nanoseconds <= MAX_UNIX_NANOSECONDS:
        raise BadInput("span.time", "a time that no clock shows")  # SQLite could not keep it
    return message


def unix_nanoseconds(clock: Clock) -> int:
    return int(clock.unix_seconds() * 1e9)
