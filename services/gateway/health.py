"""What the probes answer. It must not know how health is found out."""

from typing import Literal

import msgspec


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    status: Literal["alive"] = "alive"


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    status: Literal["ready"] = "ready"
    models: tuple[str, ...]
