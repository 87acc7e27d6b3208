"""One generation inside the engine: its sequence, its rules, what it has emitted, and who waits for it.

Written by the engine, read by one handler, both on the event loop. It must not know messages or tensors.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

from schemas.generation import Logprobs, ThinkingLimit
from schemas.shards import SamplingRule
from services.inference.mask import TokenMask
from services.inference.sequence import Sequence
from shared.errors import MoontideError


class Phase(IntEnum):
    WAITING = 0
    PREFILLING = 1
    DECODING = 2
    ENDED = 3


@dataclass(eq=False)
class Generation:
    sequence: Sequence
    rule: SamplingRule
    stop_ids: frozenset[int] = frozenset()
    thinking: ThinkingLimit | None = None
    mask: TokenMask | None = None

    replayed: int = field(init=False)
    """How many emitted tokens came with the request; they are not sent again."""
    emitted: list[int] = field(init=False)
    """Tokens of the answer so far; at the start, those of earlier attempts."""
    logprobs: list[Logprobs] = field(default_factory=list)
    """Of the tokens that were not replayed, where they were asked for."""
    phase: Phase = Phase.WAITING
    finish_reason: Literal["stop", "length"] | None = None
    failure: MoontideError | None = None
    media_fetched: int = 0
    """How often embeddings were asked for on its behalf."""
    media_done: bool = False
    """No embeddings are needed any more."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.emitted = self.sequence.tokens[self.sequence.prompt :]
        self.replayed = len(self.emitted)
        self.media_done = not self.sequence.media

    @property
    def ended(self) -> bool:
        return self.phase is Phase.ENDED

    def enter(self, phase: Phase) -> None:
        self.phase = max(self.phase, phase)
        self._changed.set()

    def reach_media_end(self) -> None:
        self.media_done = True
        self._changed.set()

    def append(self, token: int, logprobs: Logprobs | None) -> None:
        self.sequence.tokens.append(token)
        self.emitted.append(token)
        if logprobs is not None:
            self.logprobs.append(logprobs)
        self._changed.set()

    def forced(self) -> int | None:
        """The next token where it is not a matter of choice: thinking ends at its budget."""
        limit = self.thinking
        if limit is None or len(self.emitted) != limit.budget_tokens or limit.end_id in self.emitted:
            return None
        return limit.end_id

    async def reach(self, phase: Phase) -> None:
        """Wait until ``phase`` or the end. Raises what the generation failed with."""
        await self._until(lambda: self.phase >= phase)

    async def pass_media(self) -> None:
        """Wait until no embeddings are needed any more, or the end. Raises what the generation failed with."""
        await self._until(lambda: self.media_done or self.ended)

    async def grow(self, beyond: int) -> None:
        """Wait for more than ``beyond`` emitted tokens or the end. Raises what the generation failed with."""
        await self._until(lambda: len(self.emitted) > beyond or self.ended)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()
        if self.failure is not None:
            raise self.failure
