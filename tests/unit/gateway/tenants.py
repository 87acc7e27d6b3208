"""Tenants with keys for the tests of this folder, the recorder that knows what they did, and a clock that is set."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from services.recorder.app import app as recorder_app
from services.recorder.config import RecorderConfig
from shared.bus.fake import FakeBroker
from shared.clock import SystemClock
from shared.keys import Entry, KeyEntry, Quota, key_hash, new_key, render_line


@dataclass(frozen=True)
class Person:
    """Somebody with a key."""

    tenant: str
    number: int = 1
    key: str = field(default_factory=new_key)
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def key_id(self) -> str:
        return f"key-{self.tenant}-{self.number}"

    @property
    def entry(self) -> KeyEntry:
        return KeyEntry(key_id=self.key_id, tenant=self.tenant, hash=key_hash(self.key), **self.fields)


def person(tenant: str, number: int = 1, **quota: int) -> Person:
    return Person(tenant, number, fields={"quota": Quota(**quota)})


def write_keys(path: Path, *entries: Entry | Person) -> Path:
    """Replaced whole, as the command does it."""
    lines = [render_line(entry.entry if isinstance(entry, Person) else entry) for entry in entries]
    partial = path.with_suffix(".partial")
    partial.write_bytes(b"\n".join(lines))
    partial.replace(path)
    return path


class SetClock:
    """Moves when it is told to; sleeping is real, since others move it."""

    def __init__(self) -> None:
        self.passed = 0.0
        self._real = SystemClock()

    def unix_seconds(self) -> float:
        return self._real.unix_seconds() + self.passed

    def monotonic_seconds(self) -> float:
        return self._real.monotonic_seconds() + self.passed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@asynccontextmanager
async def recording(broker: FakeBroker, folder: Path) -> AsyncIterator[None]:
    """The real recorder, on the seeded fake bus."""
    config = RecorderConfig(database_path=folder / "spans.sqlite")
    process: Any = SimpleNamespace(bus=broker.bus("recorder"), clock=SystemClock())
    async with recorder_app(config, process):
        yield
