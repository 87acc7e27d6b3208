"""A stand, where sandboxes can be made."""

from pathlib import Path

import pytest

from tests.integration.tools.stand import Stand


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)
