"""Wiring of the inference service: the roles of one process, and the calls that they answer."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import kernels
from schemas import names
from schemas.generation import GenerateRequest
from schemas.shards import EncodeRequest, ShardOpened
from services.inference.announcement import Announcement
from services.inference.compute import ComputeThread
from services.inference.config import InferenceConfig
from services.inference.encoder import Encoder
from services.inference.engine import Engine
from services.inference.grammar import grammars_of
from services.inference.handlers import GenerateHandler
from services.inference.link import ShardLink
from services.inference.loading import default_threads, loaded, shard_about
from services.inference.options import EngineOptions
from services.inference.remote import SHARD_POLICY, RemoteShard
from services.inference.schedule import Limits
from services.inference.shard import Embeddings, Layers, LocalShard
from services.inference.shard_service import ENCODER_POLICY, EncodeHandler, RemoteEncoder, ShardHandler
from shared.calls.interface import CallHandler, CallPolicy
from shared.calls.serve import serve
from shared.model import config as model_config
from shared.model.checkpoint import Checkpoint
from shared.model.config import ModelConfig

if TYPE_CHECKING:
    from shared.service import Process

ENCODER_CALLS = 16


@asynccontextmanager
async def app(config: InferenceConfig, process: "Process") -> AsyncIterator[None]:
    """Entered: the role is ready. Left: admitted requests had time to finish."""
    async with AsyncExitStack() as stack:
        if config.role == "engine":
            shard = RemoteShard(
                process.bus, process.clock, config.served_model, patience_seconds=config.shard_patience_seconds
            )
            await stack.enter_async_context(shard.running())
            model = model_config.load(config.checkpoint_dir)
            await stack.enter_async_context(serving_engine(config, process, model, shard))
        else:
            compute = stack.enter_context(ComputeThread(config.threads or default_threads(config.checkpoint_dir)))
            checkpoint = await loaded(config, process.clock, compute)
            await stack.enter_async_context(_computing(config, process, compute, checkpoint))
        yield


@asynccontextmanager
async def _computing(
    config: InferenceConfig, process: "Process", compute: ComputeThread, checkpoint: Checkpoint
) -> AsyncIterator[None]:
    """The roles that hold weights."""
    encoder = Encoder(checkpoint.network, compute, process.blobs, config.encoder_cache_bytes)
    if config.role == "encoder":
        handler = EncodeHandler(encoder)
        async with _offered(process, config, names.SERVICE_ENCODER, handler, EncodeRequest, ENCODER_POLICY):
            yield
        return
    remote = RemoteEncoder(process.bus, process.clock, config.served_model)
    shard = await local_shard(config, checkpoint, compute, remote if config.role == "shard" else encoder)
    if config.role == "shard":
        handler = ShardHandler(process.bus, shard)
        async with _offered(process, config, names.SERVICE_SHARD, handler, ShardOpened, SHARD_POLICY):
            yield
        return
    async with serving_engine(config, process, checkpoint.config, shard):
        yield


async def local_shard(
    config: InferenceConfig, checkpoint: Checkpoint, compute: ComputeThread, embeddings: Embeddings
) -> LocalShard:
    """Layers with their pages in this process."""
    about = await compute.run(lambda: shard_about(config, checkpoint))
    pool = await compute.run(lambda: checkpoint.network.language_model.new_pool(about.pages))
    return LocalShard(Layers(checkpoint.network, pool), about, compute, embeddings)


def engine_options(config: InferenceConfig) -> EngineOptions:
    """Raises BadInput for a weight that does not read as one."""
    return EngineOptions(
        limits=Limits(
            slots=config.max_running,
            slice_tokens=config.prefill_slice_tokens,
            batch_patience_seconds=config.batch_patience_seconds,
        ),
        weights=config.weights,
        max_queue=config.max_queue,
        max_queued_tokens=config.max_queued_tokens,
        embedding_bytes=config.embedding_bytes,
        heed_pauses=config.heed_pauses,
    )


@asynccontextmanager
async def serving_engine(
    config: InferenceConfig, process: "Process", model: ModelConfig, shard: ShardLink
) -> AsyncIterator[Engine]:
    engine = Engine(shard, process.clock, vocabulary=model.text.vocab_size, options=engine_options(config))
    grammars = grammars_of(config.checkpoint_dir, model.text.vocab_size)
    handler = GenerateHandler(
        model=config.served_model,
        config=model,
        engine=engine,
        blobs=process.blobs,
        telemetry=process.telemetry,
        clock=process.clock,
        compile_grammar=None if grammars is None else grammars.open,
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
            metadata=Announcement(announced(config, model, engine), engine),
            check=handler.check,
        ),
    ):
        yield engine


def announced(config: InferenceConfig, model: ModelConfig, engine: Engine) -> Mapping[str, str]:
    """What discovery says of this engine, apart from its load."""
    about = engine.about
    vision = model.vision
    media = "" if vision is None else "image,video," if vision.position_time > 1 else "image,"
    grammar = "" if grammars_of(config.checkpoint_dir, model.text.vocab_size) is None else "grammar,"
    return {
        "model": config.served_model,
        "weights_digest": about.weights_digest,
        "context_length": str(model.text.max_position_embeddings),
        "numerics": about.numerics,
        "system_fingerprint": about.system_fingerprint,
        "capabilities": f"{media}thinking,logprobs,{grammar}deterministic,resumable",
    }


def _offered(
    process: "Process",
    config: InferenceConfig,
    name: str,
    handler: CallHandler,
    body_type: Any,
    policy: CallPolicy,
) -> AbstractAsyncContextManager[str]:
    """A part of a split engine: it stops at once, since its caller has what is needed to go on elsewhere."""
    shard = name == names.SERVICE_SHARD
    return serve(
        process.bus,
        process.clock,
        name=name,
        subject=(names.shard if shard else names.encode)(config.served_model),
        handler=handler,
        body_type=body_type,
        max_calls=1 if shard else ENCODER_CALLS,
        version=f"0.{kernels.VERSION}.0",
        metadata={"model": config.served_model},
        policy=policy,
        drain_seconds=0.0,
    )
