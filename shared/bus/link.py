"""One nats-py client: opened, watched and closed. What subscriptions, queues and logs are built on.

In: configuration. Out: a connected client with error callbacks logged and subscriptions that never drop silently.
Knows nothing of services, queues or messages.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription
from nats.errors import Error as NatsError
from nats.errors import SlowConsumerError
from nats.js import JetStreamContext

from shared.bus.client import Client, is_refusal
from shared.bus.config import FLUSH_SECONDS, BusConfig, client_options
from shared.bus.failures import translate, translated
from shared.bus.mailbox import MAX_PENDING_BYTES, Mailbox
from shared.errors import MoontideError, Unauthorized, Unavailable

log = logging.getLogger("bus")

CLOSE_SECONDS = 2.0
DRAIN_SECONDS = 2.0
STREAM_SECONDS = 5.0
BURST_MESSAGES = 4096
"""More than one read of the socket holds: what nats-py buffers on the way to a mailbox, which is what overflows."""


class Link:
    """The connection under a bus; ``instance`` is its unique name."""

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self.client = Client()
        self.connected = asyncio.Event()
        self.lost = asyncio.Event()
        """Of the present connection: whoever holds it learns that requests on this connection are forgotten."""
        self._mailboxes: dict[int, Mailbox] = {}
        self._outbox: Callable[[], Iterable[tuple[str, bytes]]] = tuple
        self._last_error = ""
        self.stream_replicas = 1
        self._closing = False

    async def open(self, config: BusConfig) -> None:
        """Raises Unauthorized when the server refuses us, Unavailable when none answers in time."""
        self.stream_replicas = config.stream_replicas
        options = client_options(config, self.instance)
        try:
            await self.client.connect_once(
                config.connect_seconds,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
                closed_cb=self._on_closed,
                **options,
            )
        except (NatsError, OSError, TimeoutError) as error:
            if is_refusal(error):
                raise Unauthorized("bus.refused", "the bus refused this connection") from error
            raise Unavailable("bus.unreachable", "no bus answered in time") from error
        self.connected.set()

    async def close(self) -> None:
        self._closing = True
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.send_outbox()
                await self.barrier(CLOSE_SECONDS)
        except (MoontideError, TimeoutError) as error:
            log.warning("bus closed without a last flush", extra={"reason": type(error).__name__})
        await self.client.close()
        for mailbox in list(self._mailboxes.values()):
            mailbox.end(Unavailable("bus.closed", "the bus is closed"))

    @property
    def streams(self) -> JetStreamContext:
        return self.client.jetstream(timeout=STREAM_SECONDS)

    def set_outbox(self, drain: Callable[[], Iterable[tuple[str, bytes]]]) -> None:
        self._outbox = drain

    async def send_outbox(self) -> None:
        """What must be out before anything else is sent. A loss is logged; the message behind it still goes."""
        for subject, data in self._outbox():
            try:
                with translated():
                    await self.client.publish(subject, data)
            except MoontideError as error:
                log.warning("outbox message lost", extra={"code": error.code})

    async def publish(self, subject: str, data: bytes) -> None:
        await self.send_outbox()
        with translated():
            await self.client.publish(subject, data)

    async def request(
        self, subject: str, data: bytes, timeout_seconds: float, headers: dict[str, str] | None = None
    ) -> Msg:
        await self.send_outbox()
        with translated():
            return await self.client.request(subject, data, timeout=timeout_seconds, headers=headers)

    async def barrier(self, timeout_seconds: float) -> None:
        """Returns when the server has processed everything sent before, reconnecting first if need be."""
        with translated():
            async with asyncio.timeout(timeout_seconds):
                await self.connected.wait()
                await self.client.barrier(timeout_seconds)

    async def subscribe(self, subject: str, *, queue: str, max_pending: int, confirmed: bool = True) -> Mailbox:
        async def on_message(message: Msg) -> None:
            mailbox.put(message.data)

        async def on_close() -> None:
            self._mailboxes.pop(subscription._id, None)
            await self.client.end(subscription)

        mailbox = Mailbox(max_pending, on_close)
        subscription = await self.listen(subject, on_message, queue=queue, max_pending=max_pending + BURST_MESSAGES)
        self._mailboxes[subscription._id] = mailbox
        if not confirmed:
            return mailbox
        try:
            await self.barrier(FLUSH_SECONDS)
        except BaseException:
            await mailbox.close()
            raise
        return mailbox

    async def listen(
        self, subject: str, on_message: Callable[[Msg], Awaitable[None]], *, queue: str = "", max_pending: int = 4096
    ) -> NatsSubscription:
        """A callback per message, one at a time. The server knows of it after the next ``barrier``."""
        with translated():
            return await self.client.subscribe(
                subject,
                queue=queue,
                cb=on_message,
                pending_msgs_limit=max_pending,
                pending_bytes_limit=MAX_PENDING_BYTES,
            )

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, SlowConsumerError):
            mailbox = self._mailboxes.get(error.sid)
            if mailbox is not None:
                mailbox.overflow()
        text = translate(error).code
        level = logging.DEBUG if text == self._last_error else logging.WARNING
        self._last_error = text
        log.log(level, "bus error", extra={"code": text, "kind": type(error).__name__, "reason": str(error)})

    async def _on_disconnected(self) -> None:
        self.connected.clear()
        self.lost.set()
        log.log(logging.DEBUG if self._closing else logging.WARNING, "bus disconnected")

    async def _on_reconnected(self) -> None:
        self._last_error = ""
        self.lost = asyncio.Event()
        self.connected.set()
        log.warning("bus connected again")

    async def _on_closed(self) -> None:
        self.connected.clear()
        self.lost.set()
        log.info("bus closed")
