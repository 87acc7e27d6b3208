"""Bounds on what the gateway holds at once. Full means a refusal with a retry-after, never a queue."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import Busy

RETRY_AFTER_SECONDS = 1.0


class Budget:
    """So many units (requests, bytes) may be in use at once."""

    def __init__(self, name: str, capacity: int) -> None:
        self._name = name
        self._capacity = capacity
        self._used = 0

    @property
    def used(self) -> int:
        return self._used

    @contextmanager
    def take(self, units: int = 1) -> Iterator[None]:
        """Raises Busy(``gateway.busy``). More than the capacity is taken alone, when nothing else is in use."""
        if self._used and self._used + units > self._capacity:
            message = f"the gateway is at its limit of {self._name}; try again"
            raise Busy("gateway.busy", message, retry_after_seconds=RETRY_AFTER_SECONDS)
        self._used += units
        try:
            yield
        finally:
            self._used -= units
