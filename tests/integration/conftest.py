"""A real nats-server for the tests that talk to one, started from the wheel."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.bus.broker import Broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Shared by tests that do not disturb it; they use names of their own."""
    prepared = Broker.prepare(tmp_path_factory.mktemp("broker"))
    process = subprocess.Popen(prepared.command())
    try:
        asyncio.run(prepared.wait_ready())
        yield prepared
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def broker_directory(tmp_path: Path) -> Path:
    return tmp_path / "broker"
