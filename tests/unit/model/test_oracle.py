"""Against transformers with random float32 weights in the released names: the short version."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers", reason="the oracle is not installed")

from shared.model import presets
from shared.model.checkpoint import load
from shared.model.initialise import initialise
from shared.model.network import Network
from tests.unit.model.oracle import text_oracle, vision_oracle

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    document: dict[str, Any] = presets.document("tiny", 256) | {"dtype": "float32"}
    document["text_config"] = {k: v for k, v in document["text_config"].items() if k != "quantization_config"}
    out: Path = tmp_path_factory.mktemp("oracle") / "plain"
    initialise(out, document, seed=11, tokenizer_config=None)
    return load(out).network


@pytest.mark.parametrize("first", [0, 5000, 262_080])
def test_text_logits(network: Network, first: int) -> None:
    text = network.language_model
    ids = torch.randint(512, (64,), generator=torch.Generator().manual_seed(first))
    positions = torch.arange(first, first + 64)
    with torch.no_grad():
        expected = text_oracle(network)(ids.unsqueeze(0), position_ids=positions.unsqueeze(0)).logits[0]
    ours = text.logits(text(text.embed(ids), text.new_caches(), offset=first))
    assert (ours - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("grid", [(1, 4, 6), (2, 2, 10), (3, 6, 6), (4, 14, 24), (1, 64, 64), (1, 2, 130), (4, 2, 2)])
def test_vision_rows(network: Network, grid: tuple[int, int, int]) -> None:
    tower, projector = vision_oracle(network)
    count = grid[0] * grid[1] * grid[2]
    patches = torch.randint(0, 256, (count, 3, 14, 14), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    pixels = (patches.float() / 255 - 0.5) * 2
    with torch.no_grad():
        merged = tower(pixels, grid_thw=torch.tensor([grid])).pooler_output
        expected = projector(merged).squeeze(1)
    assert (network.encode(patches, grid) - expected).abs().max() < TOLERANCE
