"""A row is what it is alone: the same bits in every forward batch, slice, page table and number of threads."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels import dispatch
from shared.model import presets
from shared.model.batch import ForwardBatch, Segment
from shared.model.checkpoint import load
from shared.model.decoder import TextModel
from shared.model.initialise import initialise
from shared.model.pages import PAGE, PagePool
from tests.oracle.configurations import random_document, random_ids, random_vl_document
from tests.sequence import hidden_rows

MOST_ROWS = 64
LENGTHS = (90, 66, 64, 9, 1)
OPERATIONS = ("linear", "linear_heads", "experts", "router_scores", "weighted_sum", "rms_norm", "rotate")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = dispatch.threads()
    yield
    dispatch.set_threads(before)


def random_text(directory: Path, seed: int, experts: str, dtype: torch.dtype) -> TextModel:
    """YaRN, dense layers and experts, with and without a query rank; loaded as the service loads it."""
    document = (random_vl_document if seed % 3 == 2 else random_document)(seed)
    document["dtype"] = "bfloat16"
    if experts == "int4":
        document["text_config"]["quantization_config"] = presets.QUANTIZATION
    initialise(directory / "checkpoint", document, seed, tokenizer_config=None)
    return load(directory / "checkpoint", dtype=dtype).network.language_model


def alone(text: TextModel, ids: Tensor) -> Tensor:
    """Hidden states [T, D], one row per forward, one thread."""
    dispatch.set_threads(1)
    return hidden_rows(text, text.embed(ids), range(1, len(ids)))


class Pool:
    """Pages in no order, handed out and never taken back."""

    def __init__(self, text: TextModel, pages: int, rng: random.Random) -> None:
        self.latents = text.new_pool(pages)
        self._free = rng.sample(range(pages), pages)

    def table(self, positions: int, shared: list[int]) -> list[int]:
        return shared + [self._free.pop() for _ in range(-(-positions // PAGE) - len(shared))]


def mixed(
    text: TextModel, pool: PagePool, sequences: list[tuple[Tensor, list[int], int]], rng: random.Random
) -> list[Tensor]:
    """Hidden states of each (ids, pages, first position to compute), in random forwards of 1 to 64 rows."""
    done = [first for _, _, first in sequences]
    found: list[list[Tensor]] = [[] for _ in sequences]
    while left := [index for index, (ids, _, _) in enumerate(sequences) if done[index] < len(ids)]:
        room, segments, owners, ids = rng.choice((1, 7, MOST_ROWS)), [], [], []
        for index in rng.sample(left, len(left)):
            if room:
                rows = rng.randint(1, min(room, len(sequences[index][0]) - done[index]))
                segments.append(Segment(done[index], rows, sequences[index][1]))
                ids.append(sequences[index][0][done[index] : done[index] + rows])
                owners.append(index)
                done[index], room = done[index] + rows, room - rows
        dispatch.set_threads(rng.choice((1, 2)))
        hidden = text(text.embed(torch.cat(ids)), ForwardBatch(segments), pool)
        for index, rows in zip(owners, hidden.split([segment.rows for segment in segments]), strict=True):
            found[index].append(rows)
    return [torch.cat(rows) for rows in found]


def differences(text: TextModel, seed: int) -> int:
    """Rows of hidden states and logits that are not what they are alone: cold, then with two pages of one sequence as
    the prefix of others."""
    rng = random.Random(seed)
    contents = [random_ids(length, 256, seed + length) for length in LENGTHS]
    expected = [alone(text, ids) for ids in contents]
    pool = Pool(text, 16, rng)
    tables = [pool.table(len(ids), []) for ids in contents]
    cold = [(ids, table, 0) for ids, table in zip(contents, tables, strict=True)]
    wrong = unequal(mixed(text, pool.latents, cold, rng), expected)
    heirs = [torch.cat((contents[0][:PAGE], random_ids(tail, 256, tail))) for tail in (20, 5)]
    warm = [(ids, pool.table(len(ids), tables[0][:1]), PAGE) for ids in heirs]
    return (
        wrong
        + unequal(mixed(text, pool.latents, warm, rng), [alone(text, ids)[PAGE:] for ids in heirs])
        + heads(text, torch.cat(expected))
    )


def heads(text: TextModel, hidden: Tensor) -> int:
    dispatch.set_threads(2)
    return unequal([text.logits(hidden)], [torch.cat([text.logits(row) for row in hidden.split(1)])])


def unequal(found: list[Tensor], expected: list[Tensor]) -> int:
    return sum(int((a != b).any(-1).sum()) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_a_row_is_what_it_is_alone(tmp_path: Path, seed: int) -> None:
    experts, dtype = ("int4", "bf16")[seed % 2], (torch.bfloat16, torch.float32)[seed // 2 % 2]
    assert differences(random_text(tmp_path, seed, experts, dtype), seed) == 0


@pytest.mark.parametrize("operation", [*OPERATIONS, "latent_attention"])
def test_a_batch_dependent_kernel_is_noticed(tmp_path: Path, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = random_text(tmp_path, 4, "int4", torch.float32)
    monkeypatch.setattr(dispatch, operation, otherwise_in_batches(getattr(dispatch, operation)))
    assert differences(text, 4) > 0


def otherwise_in_batches(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """As a stock product behaves: other last bits of some columns for some numbers of rows."""

    def planted(x: Tensor, *others: Any, **named: Any) -> Tensor:
        result = operation(x, *others, **named)
        if len(x) > 8:
            result[..., ::2] *= 1 + 1e-5
        return result

    return planted


def test_a_batch_that_does_not_fit_its_pages_is_refused(tmp_path: Path) -> None:
    text = random_text(tmp_path, 0, "int4", torch.float32)
    with pytest.raises(ValueError, match="pages for"):
        ForwardBatch([Segment(60, 5, [0])])
    with pytest.raises(ValueError, match="a segment of 0 rows"):
        ForwardBatch([Segment(0, 0, [0])])
    with pytest.raises(ValueError, match="below 0"):
        ForwardBatch([Segment(0, 1, [-1])])
    with pytest.raises(ValueError, match="pages to 3 of 2"):
        text(text.embed(torch.arange(2)), ForwardBatch([Segment(0, 2, [2])]), text.new_pool(2))


def test_a_page_costs_what_the_formula_says(tmp_path: Path) -> None:
    text = random_text(tmp_path, 0, "int4", torch.bfloat16)
    config, pool = text.config, text.new_pool(3)
    width = config.kv_lora_rank + config.qk_rope_head_dim
    assert pool.page_bytes == PAGE * width * 2 * config.num_hidden_layers
    assert pool.latents.nbytes == pool.size_bytes == 3 * pool.page_bytes
