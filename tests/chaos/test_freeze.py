"""An owner that sleeps in the middle of an append, for longer than its lease; a minute of it: ``make chaos-freeze``."""

from pathlib import Path

import pytest

from tests.chaos.freeze import freeze


@pytest.mark.timeout(180)
async def test_a_frozen_owner_that_is_revived_changes_nothing(tmp_path: Path) -> None:
    found = await freeze(tmp_path, "sent", 5, seconds=0.0)
    assert found["faults"] == []


@pytest.mark.timeout(180)
async def test_without_fencing_it_would(tmp_path: Path) -> None:
    found = await freeze(tmp_path, "before", 4, seconds=0.0, fenced=False)
    assert found["faults"]
