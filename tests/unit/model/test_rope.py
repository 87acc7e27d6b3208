"""YaRN against the check values of the released configuration."""

import math

import pytest
import torch

from shared.model import rope
from shared.model.config import ModelConfig


def test_frequencies_of_the_released_configuration(released: ModelConfig) -> None:
    inverse = rope.frequencies(released.text)
    expected = {0: 1.0, 8: 0.066874, 9: 0.0437767, 14: 0.00446585, 19: 1.58375e-4, 20: 1.80702e-5, 31: 4.38221e-7}
    for pair, value in expected.items():
        assert inverse[pair].item() == pytest.approx(value, rel=2e-5)


def test_softmax_scale_of_the_released_configuration(released: ModelConfig) -> None:
    assert rope.softmax_scale(released.text) == pytest.approx(0.14467963, abs=1e-8)
    assert rope.table_scale(released.text) == 1.0


def test_rotation_turns_adjacent_pairs_and_keeps_their_length() -> None:
    x = torch.tensor([[1.0, 0.0, 0.0, 2.0]])
    angles = 3 * torch.tensor([[1.0, 0.5]])
    cos, sin = angles.cos(), angles.sin()
    turned = rope.rotate(x, cos, sin)[0]
    expected = [math.cos(3), math.sin(3), -2 * math.sin(1.5), 2 * math.cos(1.5)]
    assert turned.tolist() == pytest.approx(expected, abs=1e-6)


def test_a_position_has_one_cosine_whenever_it_is_reached(released: ModelConfig) -> None:
    whole, grown = (rope.RotaryTable(released.text, torch.device("cpu")) for _ in range(2))
    expected = whole.rows(torch.arange(1000))
    for first in (0, 1, 63, 64, 500, 999):
        for have, want in zip(grown.rows(torch.tensor([first])), expected, strict=True):
            assert torch.equal(have[0], want[first])
    exact = torch.outer(torch.arange(1000).double(), rope.frequencies(released.text).double()).cos()
    assert (expected[0] - exact).abs().max() < 1e-4
