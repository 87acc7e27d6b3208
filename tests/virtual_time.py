"""An event loop whose time jumps instead of passing: seconds of beats and silence run in milliseconds, and equally
each time. For code that has no sockets."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START_UNIX_SECONDS = 1_700_000_000.0


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "every task waits, and nothing is scheduled"
            self.now += max(timeout, 0.0)
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class VirtualClock:
    """``shared.clock.Clock`` on the running virtual loop."""

    def unix_seconds(self) -> float:
        return START_UNIX_SECONDS + self.monotonic_seconds()

    def monotonic_seconds(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` on a virtual loop."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(main)
