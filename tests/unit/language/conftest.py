"""The vocabularies that the tests of the language boundary share."""

import os
from pathlib import Path

import pytest

from shared.language.specials import tokenizer_config
from shared.language.vocabulary import Vocabulary, load_vocabulary, tiny_vocabulary

_DATA = Path(os.environ.get("MOONTIDE_TEST_DATA_DIR", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(scope="session")
def released() -> Vocabulary:
    directory = _DATA / "kimi-k2.6"
    if not directory.is_dir():
        pytest.skip(f"the released vocabulary is not in {directory} (see MOONTIDE_TEST_DATA_DIR)")
    return load_vocabulary(directory)


@pytest.fixture(scope="session")
def tiny() -> Vocabulary:
    return Vocabulary(tiny_vocabulary(), tokenizer_config(2048))
