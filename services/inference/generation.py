"""One generation inside the engine: what was asked for, how far it got, and who waits for it.

Written by the engine, read by one handler, both on the event loop. It must not know messages or tensors' contents.
"""

import asyncio
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from services.inference.sampling import SamplingRule
from services.inference.shard import MediaRows, ShardState
from shared.errors import MoontideError


class Phase(IntEnum):
    WAITING = 0
    PREFILLING = 1
    DECODING = 2
    ENDED = 3


@dataclass(eq=False)
class Generation:
    prompt: list[int]
    emitted: list[int]
    """Tokens of the answer so far; at the start, those of earlier attempts."""
    max_tokens: int
    stop_ids: frozenset[int]
    rule: SamplingRule
    deadline_unix_seconds: float
    media: list[MediaRows] = field(default_factory=list)

    replayed: int = field(init=False)
    """How many of ``emitted`` came with the request; they are not sent again."""
    phase: Phase = Phase.WAITING
    computed: int = 0
    """Positions whose latents are cached."""
    state: ShardState | None = None
    finish_reason: Literal["stop", "length"] | None = None
    failure: MoontideError | None = None
    cancelled: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.replayed = len(self.emitted)

    def enter(self, phase: Phase) -> None:
        self.phase = phase
        if phase is Phase.ENDED:
            self.state = None
            self.media = []
        self._changed.set()

    def append(self, token: int) -> None:
        self.emitted.append(token)
        self._changed.set()

    async def reach(self, phase: Phase) -> None:
        """Wait until ``phase`` or the end. Raises what the generation failed with."""
        while self.phase < phase:
            await self._change()
        self._raise()

    async def grow(self, beyond: int) -> None:
        """Wait for more than ``beyond`` emitted tokens or the end. Raises what the generation failed with."""
        while len(self.emitted) <= beyond and self.phase < Phase.ENDED:
            await self._change()
        self._raise()

    async def _change(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    def _raise(self) -> None:
        if self.failure is not None:
            raise self.failure
