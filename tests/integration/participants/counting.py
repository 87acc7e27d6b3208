"""What the caller and callee processes of the call tests agree on."""

from pathlib import Path

import msgspec

from shared.bus.connection import BusConfig
from shared.calls.interface import CallPolicy

ITEM_SECONDS = 0.02
POLICY = CallPolicy(beat_seconds=0.1, silence_seconds=0.6, admission_seconds=0.6, attempts=20)
"""As in production, five times faster."""


class Wanted(msgspec.Struct, frozen=True):
    start: int
    count: int


class Number(msgspec.Struct, frozen=True):
    value: int


def bus_config(url: str, user: str, password_file: str) -> BusConfig:
    return BusConfig(nats_url=url, user=user, password_file=Path(password_file))
