"""Small checkpoints for the tests of the model."""

import os
from pathlib import Path

import pytest
import torch

from shared.model import config as configuration
from shared.model import presets
from shared.model.checkpoint import Checkpoint, load
from shared.model.config import ModelConfig
from shared.model.initialise import initialise

RANKS = 512


@pytest.fixture(autouse=True, scope="session")
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("checkpoints") / "tiny"
    initialise(out, presets.document("tiny", RANKS), seed=7, vocabulary=b"IQ== 0\n", tokenizer_config={})
    return out


@pytest.fixture(scope="session")
def tiny(tiny_directory: Path) -> Checkpoint:
    return load(tiny_directory, dtype=torch.float32)


@pytest.fixture(scope="session")
def released() -> ModelConfig:
    """The released configuration, from the test data beside the repository."""
    beside = Path(__file__).resolve().parents[4] / "shared" / "data"
    directory = Path(os.environ.get("MOONTIDE_TEST_DATA_DIR", beside)) / "kimi-k2.6"
    if not (directory / "config.json").exists():
        pytest.skip(f"no test data at {directory}")
    return configuration.load(directory)
