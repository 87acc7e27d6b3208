"""Logs: append with an expectation, and follow from where a durable reader got to.

In: events as bytes. Out: whether this writer won, and every event in order. Knows nothing of what events mean.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import api
from nats.js.errors import APIError

from shared.bus import stored, streams
from shared.bus.failures import WRONG_LAST_SEQUENCE, translated
from shared.bus.link import Link
from shared.bus.pull import RETRY_SECONDS, pause, pulling
from shared.errors import MoontideError

log = logging.getLogger("bus")

ACK_WAIT_SECONDS = 3.0
RENEWALS_PER_WAIT = 3


async def append(
    link: Link, subject: str, data: bytes, message_id: str, expected_last_sequence: int | None
) -> int | None:
    """The sequence of what was appended; None: another writer was first. After an unknown acknowledgement, the tail
    says who won.

    Raises Unavailable when neither an acknowledgement nor the tail could be had.
    """
    with translated():
        try:
            return (await streams.store(link, subject, data, message_id, expected_last_sequence)).seq
        except APIError as error:
            if error.err_code not in WRONG_LAST_SEQUENCE:
                raise
        except NatsTimeout:
            if expected_last_sequence is None:
                raise
        return await streams.persistently(lambda: _own_sequence(link, subject, message_id, expected_last_sequence))


async def _own_sequence(link: Link, subject: str, message_id: str, expected_last_sequence: int | None) -> int | None:
    """Of the last message, if it is ours. Raises nats' TimeoutError when nobody has written: then ours may still be
    on its way."""
    requests = link.client.jetstream(timeout=streams.STORE_SECONDS)
    last = await stored.last(requests, await requests.find_stream_name_by_subject(subject), subject)
    if (last.sequence if last else 0) == expected_last_sequence:
        raise NatsTimeout
    return last.sequence if last is not None and last.message_id == message_id else None


@asynccontextmanager
async def followed(
    link: Link, stream: str, durable: str, handler: Callable[[list[bytes]], Awaitable[None]], batch: int
) -> AsyncIterator[None]:
    """Batches go to ``handler`` while the context is open; on exit the running one finishes and is acknowledged."""
    follower = _Follower(link, stream, durable, handler, batch)
    following = asyncio.create_task(follower.run(), name=durable)
    try:
        yield
    finally:
        follower.stop()
        try:
            await asyncio.shield(following)
        finally:
            following.cancel()


class _Follower:
    def __init__(
        self,
        link: Link,
        stream: str,
        durable: str,
        handler: Callable[[list[bytes]], Awaitable[None]],
        batch: int,
    ) -> None:
        self._link = link
        self._stream = stream
        self._durable = durable
        self._handler = handler
        self._batch = batch
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._attach()
                await self._follow()
            except MoontideError as error:
                log.warning("log reader interrupted", extra={"stream": self._stream, "code": error.code})
                await pause(self._stopping, RETRY_SECONDS)

    async def _attach(self) -> None:
        """The reader exists, and what an earlier life of it left unacknowledged comes first: in order, that is.

        The server offers such messages again when ``ACK_WAIT_SECONDS`` have passed, and then before newer ones.
        """
        await streams.declare_reader(self._link, self._stream, self._config())
        with translated():
            info = await self._link.streams.consumer_info(self._stream, self._durable)
        if info.num_ack_pending:
            await pause(self._stopping, ACK_WAIT_SECONDS + RETRY_SECONDS)

    def _config(self) -> api.ConsumerConfig:
        return api.ConsumerConfig(
            durable_name=self._durable,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_SECONDS,
            max_deliver=-1,
            max_ack_pending=self._batch,
        )

    async def _follow(self) -> None:
        async with pulling(self._link, self._stream, self._durable, self._stopping) as pull:
            while not self._stopping.is_set():
                messages = await pull.next(self._batch)
                if messages:
                    await self._handle(messages)

    async def _handle(self, messages: list[Msg]) -> None:
        """Until the handler returns: a log has no place to park, and skipping would break its order."""
        messages.sort(key=lambda message: message.metadata.sequence.stream)
        renewing = asyncio.create_task(self._renew(messages))
        try:
            while True:
                try:
                    await self._handler([message.data for message in messages])
                    break
                except Exception:
                    log.exception("log handler failed", extra={"stream": self._stream})
                    await pause(self._stopping, RETRY_SECONDS)
                    if self._stopping.is_set():
                        return
        finally:
            renewing.cancel()
        with translated():
            for message in messages:
                await message.ack()

    async def _renew(self, messages: list[Msg]) -> None:
        while not messages[-1].is_acked:
            await asyncio.sleep(ACK_WAIT_SECONDS / RENEWALS_PER_WAIT)
            with suppress(NatsError, OSError):
                for message in messages:
                    await message.in_progress()
