"""A stage of its own for each test: runs of one must not be taken by the coordinator of another."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.coordinator.stage import Stage, staged


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as prepared:
        yield prepared
