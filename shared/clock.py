"""Time as an argument, so that tests do not wait. Knows nothing of what is timed."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def unix_seconds(self) -> float:
        """Wall clock, comparable between machines."""
        ...

    def monotonic_seconds(self) -> float:
        """For durations inside one process."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    def unix_seconds(self) -> float:
        return time.time()

    def monotonic_seconds(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
