"""Decoder layers in one call give the bits of its operations one by one, with every instruction set here."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from kernels import dispatch
from shared.model import presets
from shared.model.batch import ForwardBatch, Segment
from shared.model.checkpoint import load
from shared.model.decoder import TextModel
from shared.model.initialise import initialise

COMPILED = dispatch.implementations()[1:]
PAGES = 8
KINDS: tuple[tuple[str, Literal["int4", "bf16"]], ...] = (("tiny", "int4"), ("tiny", "bf16"), ("tiny-vl", "int4"))


@pytest.fixture(params=COMPILED)
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    found = dispatch.load(request.param)
    monkeypatch.setattr(dispatch, "load", lambda name=None: found)
    return request.param


def outcomes(text: TextModel, sizes: tuple[int, ...]) -> list[Tensor]:
    """Hidden states of prompts of these sizes and of one more token each, logits, and every page."""
    pool = text.new_pool(PAGES * len(sizes))
    pool.latents.zero_()
    tables = [list(range(PAGES * index, PAGES * (index + 1))) for index in range(len(sizes))]
    ids = torch.randint(text.config.vocab_size, (sum(sizes),), generator=torch.Generator().manual_seed(1))
    prompts = ForwardBatch([Segment(0, size, table) for size, table in zip(sizes, tables, strict=True)])
    following = ForwardBatch([Segment(size, 1, table) for size, table in zip(sizes, tables, strict=True)])
    h = text(text.embed(ids), prompts, pool)
    more = text(text.embed(ids[: len(sizes)]), following, pool)
    return [h, more, text.logits(more), pool.latents]


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=("bf16", "f32"))
@torch.inference_mode()
def test_whole_layers_give_the_bits_of_their_operations(
    implementation: str, kind: tuple[str, Literal["int4", "bf16"]], dtype: torch.dtype, tmp_path: Path
) -> None:
    preset, experts = kind
    initialise(tmp_path / "made", presets.document(preset, 512, experts), seed=3, tokenizer_config=None)
    text = load(tmp_path / "made", dtype=dtype).network.language_model
    assert all(layer.is_whole for layer in text.layers)
    for sizes in ((1,), (5, 1, 2), (130, 3)):
        at_once = outcomes(text, sizes)
        text.part()
        one_by_one = outcomes(text, sizes)
        text.join()
        for fast, plain in zip(at_once, one_by_one, strict=True):
            assert torch.equal(fast, plain), f"{implementation}, {sizes}"


@pytest.mark.skipif(not COMPILED, reason="no compiled kernels")
@torch.inference_mode()
def test_a_place_outside_the_pages_is_refused(tmp_path: Path) -> None:
    initialise(tmp_path / "made", presets.document("tiny", 512), seed=3, tokenizer_config=None)
    text = load(tmp_path / "made", dtype=torch.float32).network.language_model
    pool, batch = text.new_pool(2), ForwardBatch([Segment(0, 3, [1])])
    for numbers in (batch.slots, batch.positions, batch.owners):
        before = numbers.clone()
        numbers[1] = 10_000
        with pytest.raises(IndexError):
            text.layers[0](text.embed(torch.tensor([1, 2, 3])), *text.rotary(torch.arange(3)), batch, pool.latents[0])
        numbers.copy_(before)
