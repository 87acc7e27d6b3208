"""Wiring of the inference service: checkpoint, compute thread, encoder, shard, engine, and the call they answer."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch

import kernels
from schemas import names
from schemas.generation import GenerateRequest
from services.inference.compute import ComputeThread
from services.inference.config import InferenceConfig
from services.inference.encoder import Encoder
from services.inference.engine import Engine
from services.inference.handlers import GenerateHandler
from services.inference.numerics import NumericsClass, numerics_class
from services.inference.shard import Shard
from shared.calls.serve import serve
from shared.clock import Clock
from shared.model import config as model_config
from shared.model.checkpoint import Checkpoint, load
from shared.model.figures import figures

if TYPE_CHECKING:
    from shared.service import Process

PROGRESS_SECONDS = 2.0
SMALL_WEIGHT_BYTES = 64 * 2**20

log = logging.getLogger("inference")


@asynccontextmanager
async def app(config: InferenceConfig, process: "Process") -> AsyncIterator[None]:
    """Entered: the model is loaded and requests are admitted. Left: admitted ones had time to finish."""
    with ComputeThread(config.threads or default_threads(config.checkpoint_dir)) as compute:
        checkpoint = await compute.run(partial(load_checkpoint, config, process.clock))
        numerics = await compute.run(partial(numerics_class, checkpoint, config.prefill_slice_tokens))
        engine = Engine(
            Shard(checkpoint.network),
            compute,
            process.clock,
            max_queue=config.max_queue,
            slice_tokens=config.prefill_slice_tokens,
        )
        handler = GenerateHandler(
            model=config.served_model,
            config=checkpoint.config,
            fingerprint=numerics.fingerprint,
            engine=engine,
            encoder=Encoder(checkpoint.network, compute, config.encoder_cache_bytes),
            blobs=process.blobs,
            telemetry=process.telemetry,
            clock=process.clock,
        )
        async with (
            engine.running(),
            serve(
                process.bus,
                process.clock,
                name=names.SERVICE_ENGINE,
                subject=names.generate(config.served_model),
                handler=handler,
                body_type=GenerateRequest,
                max_calls=config.max_queue,
                version=f"0.{kernels.VERSION}.0",
                metadata=announcement(config, checkpoint, numerics),
                check=handler.check,
            ),
        ):
            yield


def default_threads(directory: Path) -> int | None:
    """1 for a model whose matrices are too small to share: threads that wait for each other on a busy machine cost
    it a hundredfold. None, torch's own choice, for every other. Raises BadInput."""
    return 1 if figures(model_config.load(directory)).weight_bytes < SMALL_WEIGHT_BYTES else None


def load_checkpoint(config: InferenceConfig, clock: Clock) -> Checkpoint:
    """Raises BadInput naming what is wrong in the directory."""
    dtype = None if config.dtype == "auto" else getattr(torch, config.dtype)
    if config.dtype == "auto" and config.device == "cpu":
        dtype = torch.float32
    return load(config.checkpoint_dir, dtype=dtype, device=config.device, progress=loading_log(clock))


def loading_log(clock: Clock) -> Callable[[int, int], None]:
    """A progress callback that logs every two seconds, and once at the end."""
    said = clock.monotonic_seconds()

    def progress(done: int, total: int) -> None:
        nonlocal said
        now = clock.monotonic_seconds()
        if done == total or now - said >= PROGRESS_SECONDS:
            said = now
            log.info("weights loading", extra={"done_bytes": done, "total_bytes": total})

    return progress


def announcement(config: InferenceConfig, checkpoint: Checkpoint, numerics: NumericsClass) -> dict[str, str]:
    """What discovery says of this engine."""
    vision = checkpoint.config.vision
    media = "" if vision is None else "image,video," if vision.position_time > 1 else "image,"
    return {
        "model": config.served_model,
        "weights_digest": checkpoint.digest,
        "context_length": str(checkpoint.config.text.max_position_embeddings),
        "numerics": msgspec.json.encode(numerics).decode(),
        "system_fingerprint": numerics.fingerprint,
        "capabilities": f"{media}thinking,deterministic,resumable",
    }
