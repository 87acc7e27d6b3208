"""Same request, same bits: alone, in forward batches, in slices, warm, preempted, resumed, on two threads."""

import pytest

from kernels import dispatch
from shared.model.checkpoint import Checkpoint
from tests.measure.determinism import compare, planted, tiny


async def test_no_bit_depends_on_what_is_around_a_request(checkpoint: Checkpoint) -> None:
    """``python -m tests.measure.determinism``, with fewer cases."""
    result = await compare(checkpoint, 60, seed=3)
    assert result["different"] == 0, result
    assert result["compared"] >= 60
    assert result["preempted"] > 0
    assert result["cached_tokens"] > 0
    assert result["largest_batch"] >= 12


async def test_plain_torch_keeps_the_promise_too(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = dispatch.load("reference")
    monkeypatch.setattr(dispatch, "load", lambda name=None: reference)
    result = await compare(tiny(tmp_path_factory.mktemp("plain") / "tiny", "bfloat16"), 10, seed=5)
    assert result["different"] == 0, result


async def test_a_kernel_that_depends_on_its_batch_is_found(checkpoint: Checkpoint) -> None:
    with planted("batch-dependent-kernel"):
        result = await compare(checkpoint, 10, seed=3)
    assert result["different"] > 0
