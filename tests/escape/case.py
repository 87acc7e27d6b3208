"""What a case is, and the ground that it is tried on.

A case is tried twice on fresh ground: ``attempt(ground, sandboxed=False)`` must win and ``sandboxed=True`` must not. A
case that needs something that this machine does not have is told as left out, with the reason.
"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Attempt = Callable[["Ground", bool], Awaitable[bool]]
"""(ground, sandboxed) to whether the attack got what it wanted."""


class LeftOut(Exception):
    """The case cannot be tried here; its text says why."""


@dataclass
class Ground:
    """``outside``: what no attack may reach. ``workspace``: what every attack may change."""

    outside: Path
    workspace: Path
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    facts: dict[str, Any] = field(default_factory=dict)
    """What the attacker is told beside these."""

    @property
    def canary(self) -> Path:
        """A file with the token in it."""
        return self.outside / "canary"


@dataclass(frozen=True)
class Case:
    area: str
    name: str
    attempt: Attempt
    quick: bool = False
    """Part of the short version."""
