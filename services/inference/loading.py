"""The weights that a role needs, loaded in the compute thread, and what a shard says of itself."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import torch

from schemas.shards import ShardReady
from services.inference.compute import ComputeThread
from services.inference.config import InferenceConfig, Role
from services.inference.numerics import numerics_class
from shared.clock import Clock
from shared.errors import BadInput
from shared.model import config as model_config
from shared.model.checkpoint import Checkpoint, load
from shared.model.figures import figures
from shared.model.pages import PAGE, page_bytes
from shared.model.part import EVERYTHING, Part

PROGRESS_SECONDS = 2.0
SMALL_WEIGHT_BYTES = 64 * 2**20
SPARE_CACHE_BYTES = 2**30

log = logging.getLogger("inference")


def part_of(role: Role) -> Part:
    """A shard holds no vision tower; an encoder holds hardly anything else (one layer names dtype and device)."""
    if role == "shard":
        return Part(vision=False)
    if role == "encoder":
        return Part(layers=range(1), experts=range(1), embeddings=False, head=False)
    return EVERYTHING


async def loaded(config: InferenceConfig, clock: Clock, compute: ComputeThread) -> Checkpoint:
    """Raises BadInput naming what is wrong in the directory."""
    dtype = None if config.dtype == "auto" else getattr(torch, config.dtype)
    if config.dtype == "auto" and config.device == "cpu":
        dtype = torch.float32
    reading = partial(load, dtype=dtype, device=config.device, part=part_of(config.role), progress=loading_log(clock))
    return await compute.run(lambda: reading(config.checkpoint_dir))


def default_threads(directory: Path) -> int | None:
    """1 for a model whose matrices are too small to share: threads that wait for each other on a busy machine cost
    it a hundredfold. None, torch's own choice, for every other. Raises BadInput."""
    return 1 if figures(model_config.load(directory)).weight_bytes < SMALL_WEIGHT_BYTES else None


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


def shard_about(config: InferenceConfig, checkpoint: Checkpoint) -> ShardReady:
    """A shard with as many pages as the configuration allows. Raises BadInput when that is none."""
    text = checkpoint.network.language_model
    size = page_bytes(checkpoint.config.text, len(text.layers), text.dtype)
    context = -(-checkpoint.config.text.max_position_embeddings // PAGE) * size
    pages = (config.cache_bytes or context + SPARE_CACHE_BYTES) // size
    if not pages:
        raise BadInput("config.bad_cache", f"one page takes {size} bytes", param="cache_bytes")
    numerics = numerics_class(checkpoint)
    return ShardReady(
        token="local",
        pages=pages,
        page_tokens=PAGE,
        page_bytes=size,
        embedding_bytes=checkpoint.config.text.hidden_size * text.dtype.itemsize,
        weights_digest=checkpoint.digest,
        numerics=msgspec.json.encode(numerics).decode(),
        system_fingerprint=numerics.fingerprint,
    )
