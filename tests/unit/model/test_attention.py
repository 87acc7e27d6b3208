"""The absorbed form that is served computes what the plain form of the paper computes."""

import pytest
import torch

from shared.model.batch import ForwardBatch, Segment
from shared.model.pages import PAGE
from shared.model.rope import RotaryTable
from tests.oracle.attention import plain_attention
from tests.oracle.configurations import random_network


@pytest.mark.parametrize("seed", range(4))
def test_absorbed_and_plain_agree(seed: int) -> None:
    text = random_network(seed).language_model
    module, count = text.layers[0].self_attn, 150
    x = torch.randn(count, text.config.hidden_size, generator=torch.Generator().manual_seed(seed))
    cos, sin = RotaryTable(text.config, text.device).rows(torch.arange(count))
    pages = -(-count // PAGE)
    latents = text.new_pool(pages).latents[0]
    absorbed = module(x, cos, sin, ForwardBatch([Segment(0, count, range(pages))]), latents)
    assert (absorbed - plain_attention(module, x, cos, sin)).abs().max() < 1e-5
