"""Wiring of the recorder: follow the spans log into the store, answer queries about traces and usage.

Input: a configuration and a process. Output: a running recorder. It must not know what a trace looks like.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from schemas import names
from services.recorder.config import RecorderConfig
from services.recorder.handlers import answer_trace, answer_usage, record
from services.recorder.store import SpanStore
from shared.service import Process

LOG_MAX_BYTES = 64 * 1024 * 1024
LOG_MAX_AGE_SECONDS = 3600.0
"""The log is a buffer for the time in which the recorder is away; what is kept is the database."""


@asynccontextmanager
async def app(config: RecorderConfig, process: Process) -> AsyncIterator[None]:
    """Serves while entered. Raises Unavailable when the database cannot be opened."""
    bus = process.bus
    store = await asyncio.to_thread(SpanStore.open, config.database_path)
    try:
        await bus.declare_log(
            names.STREAM_SPANS,
            (names.SPANS_ALL,),
            max_bytes=LOG_MAX_BYTES,
            max_age_seconds=LOG_MAX_AGE_SECONDS,
            volatile=True,
        )
        endpoints = {
            names.SUBJECT_TRACE_GET: partial(answer_trace, store, process.clock),
            names.SUBJECT_USAGE_GET: partial(answer_usage, store),
        }
        keep = partial(record, store, config, process.clock)
        async with (
            bus.follow_log(names.STREAM_SPANS, names.DURABLE_RECORDER_SPANS, keep),
            bus.offer(names.SERVICE_RECORDER, endpoints, version="0.1.0", metadata={}),
        ):
            yield
    finally:
        await asyncio.to_thread(store.close)
