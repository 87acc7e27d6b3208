"""nats-py's client with the faults removed that a long-lived service cannot live with. Each has a test.

- Any ``-ERR`` of the server (slow consumer, expired credentials, …) closes the client for good: here it reconnects.
- A ``flush`` that was given up leaves a cancelled future behind, and its late PONG ends the read loop.
- Configured TLS is dropped silently, credentials included, when the server does not ask for it.
- ``close`` while disconnected fails half way when something is still buffered, and leaves tasks behind.
- ``flush`` sends its PING in front of what is still buffered: ``barrier`` is the promise that ``flush`` looks like.
"""

import asyncio
from typing import Any

from nats import errors
from nats.aio.client import Client as NatsClient
from nats.aio.subscription import Subscription
from nats.protocol.parser import PERMISSIONS_ERR


class Client(NatsClient):
    async def _process_err(self, err_msg: str) -> None:
        if PERMISSIONS_ERR in err_msg:
            await super()._process_err(err_msg)
            return
        error = errors.Error(f"nats: {err_msg.strip()}")
        await self._error_cb(error)
        await self._process_op_err(error)

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            self._pongs.pop(0)
            self._pings_outstanding = 0
            return
        await super()._process_pong()

    def _connect_command(self) -> bytes:
        if "tls" in self.options and not self._server_info.get("tls_required"):
            raise errors.SecureConnWantedError
        return super()._connect_command()

    async def close(self) -> None:
        if not self.is_connected:
            self._pending, self._pending_data_size = [], 0
        await super().close()

    async def barrier(self, timeout_seconds: float) -> None:
        """Returns when the server has processed everything sent before. Raises nats' TimeoutError.

        The first round trip gives the flusher its turn, so that the second PING is behind everything buffered.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self.flush()
                await self.flush()
        except TimeoutError:
            raise errors.FlushTimeoutError from None

    async def end(self, subscription: Subscription, timeout_seconds: float = 0.0) -> None:
        """Unsubscribe, whatever state the connection is in. With a timeout, what has arrived is handled first."""
        try:
            if timeout_seconds > 0 and self._is_usable():
                async with asyncio.timeout(timeout_seconds):
                    await subscription.drain()
            elif not self.is_closed:
                await subscription.unsubscribe()
        except (errors.Error, TimeoutError, OSError):
            # Otherwise it would be replayed on the next connection, and nobody would read it.
            subscription._stop_processing()
            self._remove_sub(subscription._id)

    def _is_usable(self) -> bool:
        return self.is_connected and not self.is_draining

    async def connect_once(self, timeout_seconds: float, **options: Any) -> None:
        """``connect`` that gives up: raises the last error after the timeout, and a refusal of the credentials at once.

        Without this, unlimited reconnects mean that a wrong password is tried for ever.
        """
        failures: asyncio.Queue[Exception] = asyncio.Queue()
        report = options.pop("error_cb")

        async def on_error(error: Exception) -> None:
            failures.put_nowait(error)
            await report(error)

        connecting = asyncio.create_task(self.connect(error_cb=on_error, **options))
        try:
            await _first_verdict(connecting, failures, timeout_seconds)
        except BaseException:
            connecting.cancel()
            await asyncio.wait({connecting})
            await self._close(NatsClient.CLOSED, do_cbs=False) if self._flush_queue else None
            raise
        self._error_cb = report


async def _first_verdict(
    connecting: asyncio.Task[None], failures: asyncio.Queue[Exception], timeout_seconds: float
) -> None:
    last: Exception = errors.NoServersError()
    deadline = asyncio.get_running_loop().time() + timeout_seconds
    while not connecting.done():
        failure = asyncio.create_task(failures.get())
        left = deadline - asyncio.get_running_loop().time()
        await asyncio.wait({connecting, failure}, timeout=max(left, 0.0), return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            last = failure.result()
            if is_refusal(last):
                raise last
        else:
            failure.cancel()
        if left <= 0:
            raise last
    connecting.result()


def is_refusal(error: Exception) -> bool:
    """The server (or we) said no, and will say so again."""
    text = str(error).lower()
    return isinstance(error, errors.SecureConnWantedError) or "authorization violation" in text
