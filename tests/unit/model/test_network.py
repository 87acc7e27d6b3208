"""The network computes the same in every way of feeding it."""

import torch

from shared.model.batch import ForwardBatch, Segment
from shared.model.checkpoint import Checkpoint
from tests.sequence import logits


def some_ids(count: int, vocabulary: int) -> torch.Tensor:
    return torch.randint(vocabulary, (count,), generator=torch.Generator().manual_seed(3))


def test_slices_steps_and_one_pass_agree(tiny: Checkpoint) -> None:
    text = tiny.network.language_model
    ids = some_ids(60, text.config.vocab_size)
    whole = logits(text, ids, [])
    assert (logits(text, ids, [16, 32, 48]) - whole).abs().max() < 1e-5
    assert (logits(text, ids, list(range(1, 60))) - whole).abs().max() < 3e-5


def test_a_context_of_several_cache_blocks_agrees_with_itself(tiny: Checkpoint) -> None:
    text = tiny.network.language_model
    ids = some_ids(2100, text.config.vocab_size)
    whole = logits(text, ids, [])[-100:]
    assert (logits(text, ids, [700, 1500, 2000])[-100:] - whole).abs().max() < 1e-5
    assert (logits(text, ids, [2000, 2050])[-100:] - whole).abs().max() < 3e-5


def test_media_rows_replace_placeholders_across_slices_and_segments(tiny: Checkpoint) -> None:
    network, ids = tiny.network, some_ids(12, tiny.config.text.vocab_size)
    rows = torch.arange(5 * 128.0).view(5, 128)
    whole = network.embed(ids, [(4, rows)])
    batch = ForwardBatch([Segment(6, 6, [0]), Segment(0, 6, [1])])
    media = [*batch.rows_of(0, [(4, rows)]), *batch.rows_of(1, [(4, rows)])]
    sliced = network.embed(torch.cat((ids[6:], ids[:6])), media)
    assert torch.equal(whole, torch.cat((sliced[6:], sliced[:6])))
    assert torch.equal(whole[4:9], rows)
    assert torch.equal(whole[:4], network.language_model.embed(ids[:4]))


def test_what_a_later_token_is_cannot_change_an_earlier_logit(tiny: Checkpoint) -> None:
    text = tiny.network.language_model
    ids = some_ids(20, text.config.vocab_size)
    other = ids.clone()
    other[15:] = (other[15:] + 1) % text.config.vocab_size
    assert (logits(text, ids, [])[:15] - logits(text, other, [])[:15]).abs().max() < 1e-5


def test_an_image_and_a_chunk_become_one_row_per_square(tiny: Checkpoint) -> None:
    generator = torch.Generator().manual_seed(5)
    for grid in [(1, 2, 2), (1, 6, 10), (3, 4, 6), (4, 6, 2)]:
        count = grid[0] * grid[1] * grid[2]
        patches = torch.randint(0, 256, (count, 3, 14, 14), generator=generator, dtype=torch.uint8)
        rows = tiny.network.encode(patches, grid)
        assert rows.shape == (grid[1] * grid[2] // 4, 128)
        assert rows.isfinite().all()
