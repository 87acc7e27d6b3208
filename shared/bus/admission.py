"""NATS micro: requests to whoever is free, and discovery. Wire format: NATS architecture decision record 32.

nats-py's own service object answers ``repr(exception)`` to the outside and, when it stops, drops requests that it has
already received; here both are handled, with its message types.
"""

import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER
from nats.micro.service import EndpointInfo, EndpointStats, ServicePing, ServiceStats, ServiceVerb, control_subject
from nats.micro.service import ServiceInfo as MicroInfo
from nats.nuid import NUID

from shared.bus.config import FLUSH_SECONDS
from shared.bus.failures import translated
from shared.bus.interface import RequestHandler, ServiceInfo
from shared.bus.link import DRAIN_SECONDS, Link
from shared.errors import MoontideError, Unavailable

log = logging.getLogger("bus")

QUEUE_GROUP = "q"
MAX_WAITING_REQUESTS = 1024
"""Requests that may wait for one endpoint; more are dropped, and their senders try again."""


def answer(message: Msg) -> bytes:
    """The reply of a request. Raises Unavailable when the handler failed."""
    if message.headers and ERROR_CODE_HEADER in message.headers:
        raise Unavailable("bus.handler_failed", "the service could not answer")
    return message.data


@asynccontextmanager
async def offered(
    link: Link, name: str, endpoints: Mapping[str, RequestHandler], version: str, metadata: Mapping[str, str]
) -> AsyncIterator[str]:
    """Serve ``endpoints`` (subject → handler). On exit every request that has arrived is answered first."""
    service = _Service(link, name, version, metadata)
    subscriptions = []
    try:
        for subject, handler in endpoints.items():
            on_request = service.endpoint(subject, handler)
            subscriptions.append(
                await link.listen(subject, on_request, queue=QUEUE_GROUP, max_pending=MAX_WAITING_REQUESTS)
            )
        for subject, on_query in service.queries():
            subscriptions.append(await link.listen(subject, on_query))
        await link.barrier(FLUSH_SECONDS)
        yield service.id
    finally:
        for subscription in subscriptions:
            await link.client.end(subscription, DRAIN_SECONDS)


class _Service:
    """Identity and counters of one instance, as micro's questions see them."""

    def __init__(self, link: Link, name: str, version: str, metadata: Mapping[str, str]) -> None:
        self.id = NUID().next().decode()
        self._link = link
        self._name, self._version, self._metadata = name, version, metadata
        self._started = datetime.now(UTC).replace(tzinfo=None)
        self._endpoints: list[EndpointStats] = []

    def endpoint(self, subject: str, handler: RequestHandler) -> Callable[[Msg], Awaitable[None]]:
        stats = EndpointStats(
            name=subject.replace(".", "-"),
            subject=subject,
            queue_group=QUEUE_GROUP,
            num_requests=0,
            num_errors=0,
            processing_time=0,
            average_processing_time=0,
        )
        self._endpoints.append(stats)

        async def on_request(message: Msg) -> None:
            started = time.perf_counter_ns()
            stats.num_requests += 1
            try:
                await self._reply(message, await handler(message.data))
            except Exception:
                stats.num_errors += 1
                log.exception("request handler failed", extra={"subject": subject})
                await self._reply(message, b"", {ERROR_CODE_HEADER: "500", ERROR_HEADER: "internal error"})
            stats.processing_time += time.perf_counter_ns() - started
            stats.average_processing_time = stats.processing_time // stats.num_requests

        return on_request

    async def _reply(self, message: Msg, data: bytes, headers: dict[str, str] | None = None) -> None:
        if not message.reply:
            return
        try:
            with translated():
                await self._link.client.publish(message.reply, data, headers=headers)
        except MoontideError as error:
            log.warning("reply lost", extra={"code": error.code})

    def queries(self) -> list[tuple[str, Callable[[Msg], Awaitable[None]]]]:
        """micro's subjects: each question, asked of all services, of this kind, or of this instance."""
        answers = {ServiceVerb.PING: self._ping, ServiceVerb.INFO: self._info, ServiceVerb.STATS: self._stats}
        name = self._name
        return [
            (control_subject(verb, *scope), self._on_query(make))
            for verb, make in answers.items()
            for scope in ((), (name,), (name, self.id))
        ]

    @property
    def _identity(self) -> dict[str, Any]:
        """Metadata as they are now: a service may announce what changes, such as its load."""
        metadata = dict(self._metadata)
        return {"id": self.id, "name": self._name, "version": self._version, "metadata": metadata}

    def _on_query(self, make: Callable[[], dict[str, Any]]) -> Callable[[Msg], Awaitable[None]]:
        async def on_query(message: Msg) -> None:
            await self._reply(message, json.dumps(make()).encode())

        return on_query

    def _ping(self) -> dict[str, Any]:
        return ServicePing(**self._identity).to_dict()

    def _info(self) -> dict[str, Any]:
        endpoints = [
            EndpointInfo(name=stats.name, subject=stats.subject, queue_group=QUEUE_GROUP, metadata={})
            for stats in self._endpoints
        ]
        return MicroInfo(**self._identity, endpoints=endpoints).to_dict()

    def _stats(self) -> dict[str, Any]:
        return ServiceStats(**self._identity, started=self._started, endpoints=self._endpoints).to_dict()


async def discover(link: Link, name: str, timeout_seconds: float) -> list[ServiceInfo]:
    """Every instance that answers micro's PING in time."""
    inbox = link.client.new_inbox()
    replies = await link.subscribe(inbox, queue="", max_pending=4096)
    deadline = time.monotonic() + timeout_seconds
    found: dict[str, ServiceInfo] = {}
    try:
        await link.send_outbox()
        with translated():
            await link.client.publish(control_subject(ServiceVerb.PING, name), b"", reply=inbox)
        while (left := deadline - time.monotonic()) > 0 and (reply := await replies.next(left)) is not None:
            if not reply:
                break  # the server's "no responders"
            info = _parse(reply)
            if info is not None:
                found[info.id] = info
    finally:
        await replies.close()
    return sorted(found.values(), key=lambda info: info.id)


def _parse(reply: bytes) -> ServiceInfo | None:
    try:
        return msgspec.json.decode(reply, type=ServiceInfo)
    except msgspec.DecodeError:
        return None
