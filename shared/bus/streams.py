"""Streams and their readers: declared to be as wanted, whether new, changed or lost; and messages stored in them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from nats.errors import TimeoutError as NatsTimeout
from nats.js import api
from nats.js.errors import APIError, NoStreamResponseError, ServiceUnavailableError

from schemas import names
from shared.bus.failures import STREAM_NAME_IN_USE, translated
from shared.bus.interface import WorkQueue
from shared.bus.link import Link

T = TypeVar("T")

PARKED_MAX_BYTES = 256 * 1024 * 1024
PARKED_MAX_AGE_SECONDS = 14 * 24 * 3600.0
DUPLICATE_SECONDS = 120.0
"""For how long a message id is known to a stream that keeps longer than that: the server's default."""
STORE_TRIES = 3
STORE_SECONDS = 3.0
STORE_RETRY_SECONDS = 0.3


async def declare_queue(link: Link, queue: WorkQueue) -> None:
    """The stream, its reader, and the place for jobs that keep failing."""
    await _declare(link, queue_stream(queue))
    await _declare(
        link, _bounded_log(names.STREAM_PARKED, (names.PARKED_ALL,), PARKED_MAX_BYTES, PARKED_MAX_AGE_SECONDS)
    )
    await declare_reader(link, queue.stream, queue_reader(queue))


async def declare_log(
    link: Link, stream: str, subjects: tuple[str, ...], max_bytes: int, max_age_seconds: float, volatile: bool = False
) -> None:
    config = _bounded_log(stream, subjects, max_bytes, max_age_seconds)
    config.persist_mode = api.PersistMode.ASYNC if volatile else None
    await _declare(link, config)


async def declare_journal(
    link: Link, stream: str, subjects: tuple[str, ...], max_bytes: int, max_per_subject: int | None
) -> None:
    config = api.StreamConfig(
        name=stream,
        subjects=list(subjects),
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.NEW,
        max_bytes=max_bytes,
        max_msgs_per_subject=max_per_subject or -1,
        discard_new_per_subject=max_per_subject is not None,
        storage=api.StorageType.FILE,
        allow_direct=True,
        deny_delete=True,
    )
    await _declare(link, config)


async def declare_latest(
    link: Link, stream: str, subjects: tuple[str, ...], max_bytes: int, keep_seconds: float
) -> None:
    config = api.StreamConfig(
        name=stream,
        subjects=list(subjects),
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.OLD,
        max_bytes=max_bytes,
        max_msgs_per_subject=1,
        max_age=keep_seconds,
        duplicate_window=min(keep_seconds, DUPLICATE_SECONDS),
        storage=api.StorageType.FILE,  # one in memory is gone, itself, when its server was started again
        persist_mode=api.PersistMode.ASYNC,
        allow_direct=True,
    )
    await _declare(link, config)


def queue_stream(queue: WorkQueue) -> api.StreamConfig:
    return api.StreamConfig(
        name=queue.stream,
        subjects=list(queue.subjects),
        retention=api.RetentionPolicy.WORK_QUEUE,
        discard=api.DiscardPolicy.NEW,
        max_msgs=queue.max_jobs,
        max_age=queue.max_age_seconds,
        storage=api.StorageType.FILE,
    )


def queue_reader(queue: WorkQueue) -> api.ConsumerConfig:
    """Deliveries are not limited here: kills and drains count as deliveries, so the reader decides (and parks)."""
    return api.ConsumerConfig(
        durable_name=queue.durable,
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=queue.ack_wait_seconds,
        max_deliver=-1,
    )


def _bounded_log(stream: str, subjects: tuple[str, ...], max_bytes: int, max_age_seconds: float) -> api.StreamConfig:
    return api.StreamConfig(
        name=stream,
        subjects=list(subjects),
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.OLD,
        max_bytes=max_bytes,
        max_age=max_age_seconds,
        storage=api.StorageType.FILE,
        allow_direct=True,
    )


async def _declare(link: Link, config: api.StreamConfig) -> None:
    config.num_replicas = link.stream_replicas
    if link.stream_replicas > 1:
        config.persist_mode = None  # several servers have it: none of them may answer early
    with translated():
        try:
            await link.streams.add_stream(config)
        except APIError as error:
            if error.err_code != STREAM_NAME_IN_USE:
                raise
            known = await link.streams.stream_info(config.name or "")
            # What a stream keeps for life.
            config.persist_mode, config.storage = known.config.persist_mode, known.config.storage
            await link.streams.update_stream(config)


async def declare_reader(link: Link, stream: str, config: api.ConsumerConfig) -> None:
    with translated():
        await link.streams.add_consumer(stream, config)


async def store(
    link: Link, subject: str, data: bytes, message_id: str, expected_last_sequence: int | None = None
) -> api.PubAck:
    """Publish until it is acknowledged: the message id makes trying again safe. Raises nats-py's errors."""
    headers = {api.Header.MSG_ID.value: message_id}
    if expected_last_sequence is not None:
        headers[api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value] = str(expected_last_sequence)
    await link.send_outbox()
    return await persistently(lambda: link.streams.publish(subject, data, timeout=STORE_SECONDS, headers=dict(headers)))


async def persistently(action: Callable[[], Awaitable[T]]) -> T:
    """``action`` again when nobody answered. "No stream" counts as that: a broker that has just started says so until
    its streams are read."""
    for _ in range(STORE_TRIES - 1):
        try:
            return await action()
        except (NatsTimeout, NoStreamResponseError, ServiceUnavailableError):
            await asyncio.sleep(STORE_RETRY_SECONDS)
    return await action()
