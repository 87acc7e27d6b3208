"""One stack for the tests that only ask, the media they ask about, and where the released test data lies."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import ROOT, Stack, running


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack")) as started:
        yield started


@pytest.fixture(scope="session")
def data_dir() -> Path:
    directory = Path(os.environ.get("MOONTIDE_TEST_DATA_DIR", ROOT.parent / "shared" / "data"))
    if not directory.is_dir():
        pytest.skip(f"no test data at {directory}")
    return directory


@pytest.fixture(scope="session")
def nasa(data_dir: Path) -> Path:
    return data_dir / "media" / "nasa_13013.mp4"
