"""``python -m tests.measure.long_context``: a prompt that fills the context, and one token more, asked of the service.

A one-layer checkpoint with released positions (262,144) is served by the inference service as it is configured by
default, but on all cores, over a bus in this process. Prints one JSON object; exit code 1 when an answer is not the
promised one.
"""

import argparse
import asyncio
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from schemas import names
from schemas.generation import GenerateRequest, GenerationFinished, GenerationItem
from schemas.request import RequestContext
from services.inference.app import app
from services.inference.config import InferenceConfig
from shared.blobs.store import BlobStore
from shared.bus.fake import FakeBroker
from shared.calls.follow import follow
from shared.calls.interface import CallTarget
from shared.clock import SystemClock
from shared.errors import BadInput
from shared.model import presets
from shared.model.initialise import initialise
from shared.service import Process
from shared.telemetry.tracing import Telemetry
from tests.measure.memory import peak_bytes

RANKS = 512
HEADS = 2
DEADLINE_SECONDS = 3600.0


def write_checkpoint(directory: Path, context: int) -> Path:
    """The tiny model with one layer, which has experts, and fewer heads: attention is what takes the time."""
    document = presets.document("tiny", RANKS)
    document["text_config"] |= {
        "max_position_embeddings": context,
        "num_hidden_layers": 1,
        "first_k_dense_replace": 0,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
    }
    initialise(directory, document, seed=1, tokenizer_config=None)
    return directory


async def ask(broker: FakeBroker, blobs: BlobStore, model: str, prompt_tokens: int) -> GenerationFinished:
    """The last word about one token behind a prompt of random ids. Raises BadInput where the service refuses."""
    ids = np.random.default_rng(prompt_tokens).integers(RANKS, size=prompt_tokens).astype("<u4")
    prompt = await blobs.inline_or_put(ids.tobytes())
    body = GenerateRequest(
        model=model, prompt_ids=prompt, max_tokens=1, temperature=0.0, top_p=1.0, seed=1, stop_ids=()
    )
    deadline = SystemClock().unix_seconds() + DEADLINE_SECONDS
    context = RequestContext(request_id=f"tokens-{prompt_tokens}", deadline_unix_seconds=deadline)
    target = CallTarget(subject=names.generate(model), context=context)
    items = [item async for item in follow(broker.bus("caller"), SystemClock(), target, lambda: body, GenerationItem)]
    assert isinstance(items[-1], GenerationFinished)
    return items[-1]


async def measure(directory: Path, context: int, threads: int) -> dict[str, Any]:
    config = InferenceConfig(checkpoint_dir=write_checkpoint(directory / "one-layer", context), threads=threads)
    broker, blobs = FakeBroker(1), BlobStore.open((directory / "blobs").as_uri())
    bus = broker.bus("inference")
    process = Process(name="inference", bus=bus, blobs=blobs, telemetry=Telemetry("inference", bus.instance, bus))
    async with app(config, process):
        started = time.monotonic()
        finished = await ask(broker, blobs, config.served_model, context)
        seconds = time.monotonic() - started
        try:
            await ask(broker, blobs, config.served_model, context + 1)
            refusal = None
        except BadInput as error:
            refusal = {"status": error.status, "message": error.message}
    return {
        "context_length": context,
        "threads": threads,
        "slice_tokens": config.prefill_slice_tokens,
        "served": {"prompt_tokens": finished.prompt_tokens, "completion_tokens": finished.completion_tokens},
        "refused": refusal,
        "seconds": round(seconds, 3),
        "prefill_tokens_per_second": round(finished.prompt_tokens / finished.prefill_seconds, 1),
        "peak_bytes": peak_bytes(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.long_context")
    parser.add_argument("--context", type=int, default=262_144, help="tokens (default: 262144)")
    context = parser.parse_args().context
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="moontide-") as name:
        figures = asyncio.run(measure(Path(name), context, torch.get_num_threads()))
    print(json.dumps(figures))
    served = figures["served"] == {"prompt_tokens": context, "completion_tokens": 1}
    return 0 if served and figures["refused"] else 1


if __name__ == "__main__":
    sys.exit(main())
