"""Same request, same bits: alone, in forward batches, in slices, warm, preempted, resumed, on two threads."""

import pytest
import torch
from torch import Tensor

import kernels.dispatch
from shared.model.checkpoint import Checkpoint
from tests.measure.determinism import compare


async def test_no_bit_depends_on_what_is_around_a_request(checkpoint: Checkpoint) -> None:
    """``python -m tests.measure.determinism``, with fewer cases."""
    result = await compare(checkpoint, 60, seed=3)
    assert result["different"] == 0, result
    assert result["compared"] >= 60
    assert result["preempted"] > 0
    assert result["cached_tokens"] > 0
    assert result["largest_batch"] >= 12


async def test_a_kernel_that_depends_on_its_batch_is_found(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = kernels.dispatch.rms_norm

    def tainted(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return exact(x, weight, eps) * (1 + 1e-6 * torch.tensor(float(len(x) > 1)))

    monkeypatch.setattr("kernels.dispatch.rms_norm", tainted)
    result = await compare(checkpoint, 10, seed=3)
    assert result["different"] > 0
