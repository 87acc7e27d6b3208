"""What is read of a checkpoint directory, and what is refused with the file named."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.tokenizer.checkpoint import licence_of, load_checkpoint
from services.tokenizer.config import TokenizerConfig
from shared.errors import BadInput

from .stack import write_checkpoint


def test_what_is_read(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(write_checkpoint(tmp_path / "a", temperature=0.5, eos_token_id=3))
    assert (checkpoint.context_length, checkpoint.has_vision, checkpoint.licence) == (4096, True, "unknown")
    assert checkpoint.defaults.temperature == 0.5
    assert not checkpoint.defaults.moontide_random_weights


def test_generation_config_may_be_missing(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path / "a")
    (directory / "generation_config.json").unlink()
    assert load_checkpoint(directory).defaults.max_new_tokens is None


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.json", "{"),
        ("config.json", '{"text_config": {"max_position_embeddings": 0, "vocab_size": 9999}}'),
        ("config.json", '{"text_config": {"max_position_embeddings": 9, "vocab_size": 10}}'),
        ("generation_config.json", '{"temperature": -1}'),
        ("tiktoken.model", "nothing"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, file: str, text: str) -> None:
    directory = write_checkpoint(tmp_path / "a")
    (directory / file).write_text(text)
    with pytest.raises(BadInput) as caught:
        load_checkpoint(directory)
    assert caught.value.code.startswith("checkpoint.")


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: modified-mit\n---\n", "modified-mit"),
        ("# A model\n", "unknown"),
    ],
)
def test_licence_is_the_model_cards(tmp_path: Path, card: str, licence: str) -> None:
    (tmp_path / "README.md").write_text(card)
    assert licence_of(tmp_path) == licence


def test_the_model_is_named_after_its_directory() -> None:
    assert TokenizerConfig(checkpoint_dir=Path("/models/Moonlet/")).served_model == "moonlet"
    assert TokenizerConfig(checkpoint_dir=Path("/models/x"), model="y").served_model == "y"


def test_the_service_does_not_import_torch() -> None:
    code = "import sys, services.tokenizer.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
