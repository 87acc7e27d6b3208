"""A stand, where sandboxes can be made."""

import asyncio
from pathlib import Path

import pytest

from services.tools.probe import probed
from tests.integration.tools.stand import Stand


@pytest.fixture(scope="session", autouse=True)
def sandbox() -> None:
    """As `moontide doctor` sees it: a machine that allows none has nothing to test here."""
    told = asyncio.run(probed())
    if not told["ok"]:
        pytest.skip(str(told["found"]))


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path)
