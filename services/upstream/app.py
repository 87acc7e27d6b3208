"""Wiring of the upstream service: each endpoint of the configuration answers ``chat.<model>`` as a model of ours.

Input: a configuration and a process. Output: one announced micro service per endpoint, its limits in its metadata.
It must not know how an answer is made.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from schemas import names
from schemas.chat import ChatRequest
from services.upstream import config as settings
from services.upstream.announcement import identify, metadata
from services.upstream.config import UpstreamConfig
from services.upstream.endpoint import Endpoint, ListedModel
from services.upstream.handlers import answering
from shared.calls.serve import serve
from shared.service import Process

VERSION = "0.1.0"
log = logging.getLogger("upstream")


@asynccontextmanager
async def app(config: UpstreamConfig, process: Process) -> AsyncIterator[None]:
    """Serves while entered. Raises BadInput for a configuration that cannot be served."""
    async with AsyncExitStack() as stack:
        rows = settings.endpoints(config)
        opened = [await stack.enter_async_context(Endpoint.open(row)) for row in rows]
        known = [await identify(row, endpoint) for row, endpoint in zip(rows, opened, strict=True)]
        settings.check_names([row.model or "" for row, _ in known])
        for (row, listed), endpoint in zip(known, opened, strict=True):
            await stack.enter_async_context(offer(row, listed, endpoint, process))
        yield


@asynccontextmanager
async def offer(
    config: UpstreamConfig, listed: ListedModel, endpoint: Endpoint, process: Process
) -> AsyncIterator[None]:
    """One endpoint behind one subject."""
    model = config.model or listed.id
    handler = answering(config, listed, endpoint, process)
    async with serve(
        process.bus,
        process.clock,
        name=names.SERVICE_UPSTREAM,
        subject=names.chat(model),
        handler=handler.handle,
        body_type=ChatRequest,
        check=handler.check,
        max_calls=config.max_concurrent,
        version=VERSION,
        metadata=metadata(config, model),
    ):
        log.info("endpoint offered", extra={"model": model, "engine": listed.owned_by or "unknown"})
        yield
