"""Where real media files are."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def media_directory() -> Path:
    root = Path(os.environ.get("MOONTIDE_TEST_DATA_DIR") or Path(__file__).resolve().parents[4] / "shared" / "data")
    if not (root / "media").is_dir():
        pytest.skip(f"no media files in {root} (set MOONTIDE_TEST_DATA_DIR)")
    return root / "media"
