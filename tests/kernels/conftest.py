"""Every implementation of this machine in turn. ``BREAK=batch-dependent-kernel`` plants a fault that must be found."""

import os
from collections.abc import Iterator

import pytest

from kernels.dispatch import Operations, implementations, load
from tests.kernels.planted import BatchDependent


@pytest.fixture(params=implementations())
def ops(request: pytest.FixtureRequest) -> Iterator[Operations]:
    found = load(request.param)
    threads = found.threads()
    yield BatchDependent() if os.environ.get("BREAK") == "batch-dependent-kernel" else found
    found.set_threads(threads)
