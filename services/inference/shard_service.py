"""A shard as a process of its own: the callee of one engine at a time, and the caller of encoders.

Input: forwards and wanted media on a subject of the call. Output: items of the call. When the engine falls silent, what
it had here is dropped. It must not know requests.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec
import torch
from torch import Tensor

from schemas import names
from schemas.codec import decode
from schemas.generation import MediaSpan
from schemas.request import RequestContext
from schemas.shards import (
    EmbeddingParcel,
    EncodeRequest,
    Forward,
    ForwardDone,
    ForwardFailed,
    MediaHeld,
    MediaMissing,
    MediaWanted,
    ShardOpened,
    ShardWork,
)
from services.inference.link import ShardLink
from services.inference.shard import Embeddings
from shared.bus.interface import Bus, Subscription
from shared.calls.follow import follow
from shared.calls.interface import CallPolicy, CallTarget, CallWriter
from shared.clock import Clock
from shared.errors import Internal, MoontideError, internal_failure

ENCODER_POLICY = CallPolicy(beat_seconds=0.2, silence_seconds=0.8, admission_seconds=0.8, recovery_seconds=10.0)
ENCODE_SECONDS = 600.0
PARCEL_BYTES = 256 * 2**10

log = logging.getLogger("inference")


class ShardHandler:
    """The ``shard.<model>`` call around a link to layers in this process."""

    def __init__(self, bus: Bus, shard: ShardLink) -> None:
        self._bus, self._shard = bus, shard

    async def __call__(self, context: RequestContext, opened: ShardOpened, out: CallWriter) -> None:
        log.info("shard taken", extra={"engine": opened.engine})
        token = uuid.uuid4().hex
        work = await self._bus.subscribe(names.shard_work(token))
        fetching: dict[str, asyncio.Task[None]] = {}
        try:
            about = await self._shard.ready()
            await out.send(msgspec.structs.replace(about, token=token))
            await self._serve(work, out, fetching)
        finally:
            for task in fetching.values():
                task.cancel()
            await work.close()

    async def _serve(self, work: Subscription, out: CallWriter, fetching: dict[str, asyncio.Task[None]]) -> None:
        last = 0
        async for data in work:
            message: ShardWork = decode(data, ShardWork)  # pyright: ignore[reportArgumentType]  # a union is no type
            if isinstance(message, MediaWanted):
                running = fetching.get(message.key)
                if running is None or running.done():
                    fetching[message.key] = asyncio.create_task(self._fetch(message, out))
            elif message.number > last:
                last = message.number
                await out.send(await self._execute(message))

    async def _execute(self, forward: Forward) -> ForwardDone | ForwardFailed:
        try:
            return await self._shard.execute(forward)
        except MoontideError as error:
            return ForwardFailed(number=forward.number, failure=error.to_failure())
        except Exception:
            log.exception("forward failed")  # the engine finds out whose fault it is
            return ForwardFailed(number=forward.number, failure=internal_failure())

    async def _fetch(self, wanted: MediaWanted, out: CallWriter) -> None:
        try:
            await self._shard.fetch(wanted.key, wanted.span)
            await out.send(MediaHeld(key=wanted.key))
        except MoontideError as error:
            await out.send(MediaMissing(key=wanted.key, failure=error.to_failure()))


class RemoteEncoder:
    """``Embeddings`` from whichever encoder process takes the call; one that dies is replaced by another."""

    def __init__(self, bus: Bus, clock: Clock, model: str) -> None:
        self._bus, self._clock, self._model = bus, clock, model

    async def rows(self, span: MediaSpan) -> Tensor:
        parcels: list[EmbeddingParcel] = []

        def body() -> EncodeRequest:
            parcels.clear()
            return EncodeRequest(span=span)

        context = RequestContext(
            request_id=self._bus.instance, deadline_unix_seconds=self._clock.unix_seconds() + ENCODE_SECONDS
        )
        target = CallTarget(subject=names.encode(self._model), context=context, policy=ENCODER_POLICY)
        async with aclosing(follow(self._bus, self._clock, target, body, EmbeddingParcel)) as items:
            async for parcel in items:
                parcels.append(parcel)
        return joined(parcels)


class EncodeHandler:
    """The ``encode.<model>`` call around an encoder in this process."""

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings

    async def __call__(self, context: RequestContext, request: EncodeRequest, out: CallWriter) -> None:
        async for parcel in parcels_of(await self._embeddings.rows(request.span)):
            await out.send(parcel)


async def parcels_of(rows: Tensor) -> AsyncIterator[EmbeddingParcel]:
    """Rows [M, D] in pieces that fit into messages."""
    dtype = str(rows.dtype).removeprefix("torch.")
    step = max(PARCEL_BYTES // max(rows[:1].nbytes, 1), 1)
    for piece in rows.cpu().contiguous().split(step):
        yield EmbeddingParcel(rows=len(rows), dtype=dtype, data=piece.view(torch.uint8).numpy().tobytes())


def joined(parcels: list[EmbeddingParcel]) -> Tensor:
    """[M, D] again. Raises Internal when a piece is missing."""
    data = bytearray(b"".join(parcel.data for parcel in parcels))
    dtype = getattr(torch, parcels[0].dtype, None) if parcels else None
    if not isinstance(dtype, torch.dtype) or len(data) % (parcels[0].rows * dtype.itemsize):
        raise Internal("encoder.incomplete", "an encoder sent embeddings that do not fit together")
    return torch.frombuffer(data, dtype=dtype).view(parcels[0].rows, -1)
