"""Directories with released names and files load and answer, over the generation call."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.generation import GenerateRequest, MediaSpan
from services.inference.compute import ComputeThread
from services.inference.handlers import GenerateHandler
from shared.errors import BadInput
from shared.model import presets
from shared.model.checkpoint import load
from shared.model.initialise import initialise
from tests.unit.inference.conftest import SMALL, Blobs, Caller, context, request
from tests.unit.inference.conftest import serving as engine_serving

SMALLER = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "kv_lora_rank": 32,
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_attention_heads": 2,
    "num_experts_per_tok": 2,
    "num_key_value_heads": 2,
    "q_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "v_head_dim": 16,
    "vocab_size": 512,
}
SMALLER_TOWER = {
    "mm_hidden_size": 64,
    "text_hidden_size": 64,
    "vt_hidden_size": 64,
    "vt_intermediate_size": 96,
    "vt_num_attention_heads": 4,
    "vt_num_hidden_layers": 2,
}


@asynccontextmanager
async def serving(directory: Path, blobs: Blobs) -> AsyncIterator[GenerateHandler]:
    checkpoint = load(directory, dtype=torch.float32)
    with ComputeThread(threads=1) as compute:
        async with engine_serving(checkpoint, blobs, compute, SMALL) as handler:
            yield handler


async def answer(handler: GenerateHandler, body: GenerateRequest) -> list[int]:
    caller = Caller()
    handler.check(context(), body)
    await handler(context(), body, caller)
    return caller.ids


def image(blobs: Blobs, frames: int = 1) -> tuple[MediaSpan, ...]:
    count = frames * 4 * 6 * 3 * 14 * 14
    data = torch.randint(0, 256, (count,), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    patches = blobs.put(f"p{frames}", data.numpy().tobytes())
    return (MediaSpan(position=3, tokens=6, grid=(frames, 4, 6), patches=patches),)


def released() -> dict[str, Any]:
    """The released config.json with all layers, and everything else small."""
    beside = Path(__file__).resolve().parents[4] / "shared" / "data"
    path = Path(os.environ.get("MOONTIDE_TEST_DATA_DIR", beside)) / "kimi-k2.6" / "config.json"
    if not path.exists():
        pytest.skip(f"no test data at {path}")
    document = json.loads(path.read_bytes())
    document["text_config"] |= SMALLER
    document["vision_config"] |= SMALLER_TOWER
    return document


def other_spelling(document: dict[str, Any]) -> dict[str, Any]:
    """As transformers 5 writes the same configuration."""
    text = dict(document["text_config"])
    rope = text.pop("rope_scaling")
    rope |= {"rope_type": rope["type"], "rope_theta": text.pop("rope_theta")}
    text["rope_parameters"] = {name: value for name, value in rope.items() if name != "type"}
    text["model_type"] = "deepseek_v3"
    top = {"quantization_config": text.pop("quantization_config"), "torch_dtype": document["dtype"]}
    vision = {name.removeprefix("vt_"): value for name, value in document["vision_config"].items()}
    return {n: v for n, v in document.items() if n != "dtype"} | top | {"text_config": text, "vision_config": vision}


async def test_the_released_files_and_configuration_answer_alike_in_both_spellings(tmp_path: Path) -> None:
    document, blobs = released(), Blobs()
    answers = []
    for name, spelled in (("k26", document), ("k25", other_spelling(json.loads(json.dumps(document))))):
        initialise(tmp_path / name, spelled, seed=1, tokenizer_config=None)
        files = {path.name for path in (tmp_path / name).glob("*.safetensors")}
        assert files == {f"model-{i:05d}-of-000064.safetensors" for i in range(1, 65)}
        async with serving(tmp_path / name, blobs) as handler:
            answers.append(await answer(handler, request(max_tokens=6, media=image(blobs))))
    assert len(answers[0]) == 6
    assert answers[0] == answers[1]


async def test_a_kimi_vl_directory_answers_about_an_image_and_refuses_frames(tmp_path: Path) -> None:
    initialise(tmp_path / "vl", presets.document("tiny-vl", 512), seed=1, tokenizer_config=None)
    blobs = Blobs()
    async with serving(tmp_path / "vl", blobs) as handler:
        seen = await answer(handler, request(media=image(blobs)))
        assert len(seen) == 24
        assert seen != await answer(handler, request())
        with pytest.raises(BadInput, match="takes images"):
            await answer(handler, request(media=image(blobs, frames=2)))
