"""Wiring of the ingest service: scratch folder, worker pool, preparation, consumer; ended in reverse order."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from services.ingest.config import IngestConfig
from services.ingest.exchange import DecodeLimits
from services.ingest.handlers import PrepareMedia, decode_span
from services.ingest.pool import WorkerPool, worker_command
from services.ingest.preparation import Limits, Preparation
from services.ingest.queue import MEDIA_QUEUE
from services.ingest.scratch import scratch

if TYPE_CHECKING:
    from shared.service import Process


@asynccontextmanager
async def app(config: IngestConfig, process: "Process") -> AsyncIterator[None]:
    """Entered: workers are warm and jobs are taken. Left: jobs in flight have been finished."""
    with scratch(config.scratch_directory) as folder:
        pool = WorkerPool(config.workers, worker_command(config.memory_bytes), folder, config.job_seconds)
        preparation = Preparation(
            blobs=process.blobs,
            pool=pool,
            folder=folder,
            limits=limits(config),
            decoding=partial(decode_span, process.telemetry),
        )
        handler = PrepareMedia(process.bus, preparation, process.telemetry, process.clock)
        await process.bus.declare(MEDIA_QUEUE)
        async with (
            pool.running(),
            process.bus.consume(MEDIA_QUEUE, handler.handle, in_flight=config.workers, on_parked=handler.park),
        ):
            yield


def limits(config: IngestConfig) -> Limits:
    decode = DecodeLimits(
        max_pixels=config.max_pixels,
        max_duration_seconds=config.max_duration_seconds,
        max_media_tokens=config.max_media_tokens,
        cpu_seconds=math.ceil(config.job_seconds * config.threads),
        threads=config.threads,
    )
    return Limits(decode=decode, max_source_bytes=config.max_source_bytes)
