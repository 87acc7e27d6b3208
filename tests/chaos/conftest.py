"""What the storms of these tests need around them."""

import asyncio
import logging
from collections.abc import Iterator

import pytest

from services.tools.probe import probed


@pytest.fixture
def quiet() -> Iterator[None]:
    """This process loses its broker all the time, and would say so."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="session")
def sandbox() -> None:
    """For tests whose tools run programs: a machine that allows no sandbox is told so by `moontide doctor`."""
    told = asyncio.run(probed())
    if not told["ok"]:
        pytest.skip(str(told["found"]))
