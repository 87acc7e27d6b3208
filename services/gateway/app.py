"""Wiring of the gateway: parts, routes, port, drain.

Entered it listens; leaving it stops accepting, lets running requests end, cancels the rest, and waits for their
terminal records.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from services.gateway.beside import beside
from services.gateway.chat import Chats, Follow
from services.gateway.chat_handlers import ChatHandlers
from services.gateway.chat_request import ChatRequests
from services.gateway.config import GatewayConfig
from services.gateway.daily_use import DailyUse
from services.gateway.error_body import errors_middleware
from services.gateway.file_body import FileBodies
from services.gateway.file_handlers import FileHandlers
from services.gateway.files import FileLibrary
from services.gateway.handlers import Handlers
from services.gateway.identity import add_headers, identity_middleware, quota_middleware, request_id_middleware
from services.gateway.keys import Keys
from services.gateway.media_handlers import MediaHandlers
from services.gateway.media_input import MediaInput
from services.gateway.models import ModelDirectory
from services.gateway.open_requests import OpenRequests
from services.gateway.quotas import Quotas
from services.gateway.request_body import RequestBodies
from services.gateway.run_parts import RunParts
from services.gateway.run_request import RunRequests
from services.gateway.seen_media import SeenMedia
from services.gateway.usage_handlers import UsageHandlers
from shared.blobs.lifetimes import Lifetimes
from shared.blobs.store import BlobStore
from shared.calls.follow import follow
from shared.clock import Clock
from shared.errors import MoontideError, Unavailable
from shared.request_events import RequestEvents
from shared.service import Process, Service

log = logging.getLogger(__name__)


@asynccontextmanager
async def app(config: GatewayConfig, process: Process) -> AsyncIterator[int]:
    """Serves; yields the port in use."""
    async with serving(config, process, follow) as port:
        yield port


SERVICE = Service(name="gateway", config=GatewayConfig, app=app)


@asynccontextmanager
async def serving(config: GatewayConfig, process: Process, follow: Follow) -> AsyncIterator[int]:
    """``app`` with the caller of chats as an argument."""
    events = RequestEvents(process.bus, process.clock, "gateway")
    await events.declare(config.events_max_bytes, config.events_max_age_seconds)
    async with events.answering():
        handlers, application = build(config, process, events, follow)
        runner = web.AppRunner(
            application, handler_cancellation=True, shutdown_timeout=config.drain_seconds, access_log=None
        )
        await runner.setup()
        try:
            port = await _listen(runner, config)
            async with beside(_collect(process.blobs, process.clock, config), "collect blobs"):
                yield port
        finally:
            handlers.draining = True
            await runner.cleanup()
            await events.settle()
            if config.port_file is not None:
                await asyncio.to_thread(config.port_file.unlink, missing_ok=True)


def build(
    config: GatewayConfig, process: Process, events: RequestEvents, follow: Follow
) -> tuple[Handlers, web.Application]:
    keys = Keys.load(config.keys_file, process.clock)
    held = OpenRequests(keys, process.clock)
    others = DailyUse(process.bus, process.clock)
    quotas = Quotas(keys, process.clock, others)
    files = FileLibrary(process.blobs, process.clock, config.file_max_bytes)
    file_bodies = FileBodies(process.blobs, config.write_timeout_seconds)
    bodies = RequestBodies(config)
    seen = SeenMedia(process.blobs)
    models = ModelDirectory(process.bus, process.clock, config.models_max_age_seconds)
    handlers = Handlers(config, process.bus, models)
    requests = ChatRequests(process.blobs, MediaInput(process.blobs, files))
    parts = RunParts(config, process, models, bodies, RunRequests(process.blobs, files, requests), file_bodies, quotas)
    chat_handlers = ChatHandlers(
        config=config,
        clock=process.clock,
        telemetry=process.telemetry,
        models=models,
        bodies=bodies,
        requests=requests,
        chats=Chats(process.bus, process.clock, process.blobs, events, follow),
        seen=seen,
        quotas=quotas,
        starts=parts.starts,
        agents=parts.agents,
    )
    middlewares = [request_id_middleware, errors_middleware, identity_middleware(keys, held), quota_middleware(quotas)]
    application = web.Application(middlewares=middlewares)
    application.cleanup_ctx.append(_watched(keys, held, others, config.keys_poll_seconds))
    application.add_routes(handlers.routes())
    application.add_routes(chat_handlers.routes())
    application.add_routes(FileHandlers(config, file_bodies, files, process.telemetry).routes())
    application.add_routes(MediaHandlers(seen).routes())
    application.add_routes(UsageHandlers(process.bus, process.clock).routes())
    application.add_routes(parts.routes())
    application.on_shutdown.append(parts.let_go)
    application.on_cleanup.append(parts.settle)
    application.on_response_prepare.append(add_headers)
    return handlers, application


def _watched(
    keys: Keys, held: OpenRequests, others: DailyUse, interval_seconds: float
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def watched(_: web.Application) -> AsyncIterator[None]:
        async with keys.watched(interval_seconds), held.watched(interval_seconds):
            yield
        await others.settle()

    return watched


async def _listen(runner: web.AppRunner, config: GatewayConfig) -> int:
    """Raises Unavailable(``gateway.port``) when the port is taken."""
    try:
        await web.TCPSite(runner, config.host, config.port).start()
    except OSError as error:
        message = f"cannot listen on {config.host}:{config.port}: {error.strerror or error}"
        raise Unavailable("gateway.port", message) from error
    port: int = runner.addresses[0][1]
    log.info("gateway listens", extra={"host": config.host, "port": port})
    if config.port_file is not None:
        await asyncio.to_thread(_write_whole, config.port_file, str(port))
    return port


def _write_whole(path: Path, text: str) -> None:
    """Whoever waits for the file never reads half of it."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


async def _collect(blobs: BlobStore, clock: Clock, config: GatewayConfig) -> None:
    """Removes expired blobs now and then."""
    lifetimes = Lifetimes(
        blob_seconds=config.blob_lifetime_seconds,
        derived_seconds=config.record_lifetime_seconds,
        record_seconds=config.record_lifetime_seconds,
    )
    while True:
        await clock.sleep(config.collect_interval_seconds)
        try:
            report = await blobs.collect(clock.unix_seconds(), lifetimes)
            log.info("blobs collected", extra={"removed": report.removed, "freed_bytes": report.freed_bytes})
        except MoontideError as error:
            log.warning("blobs not collected", extra={"code": error.code})
