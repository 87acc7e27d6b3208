"""A scripted gateway, and a data directory of the test's own in an environment without ours."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import config as configuration
from tests.unit.cli.scripted_gateway import ScriptedGateway, serving


@pytest.fixture
def gateway() -> Iterator[ScriptedGateway]:
    with serving(ScriptedGateway()) as started:
        yield started


@pytest.fixture(autouse=True)
def own_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in configuration.environment():
        if name.startswith(("MOONTIDE_", "NATS_", "OTEL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MOONTIDE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"
