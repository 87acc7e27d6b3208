"""Generations inside an engine: who waits or runs, who is wanted no more, and how each of them ends, once.

Input: admitted generations, their tokens, errors. Output: ends, in ``Generation``; a sequence that leaves is handed to
``withdraw``, which frees its memory: at once, or after the forward that still writes to it. It must not know messages,
shards or tensors.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Literal

from schemas.shards import TokenDrawn
from services.inference.forward import settled
from services.inference.generation import Generation, Phase
from services.inference.sequence import Sequence
from shared.errors import Cancelled, DeadlineExceeded, MoontideError


class Roster:
    def __init__(self, withdraw: Callable[[Sequence], None]) -> None:
        self._withdraw = withdraw
        self._members: dict[int, Generation] = {}
        self._leaving: list[Generation] = []
        self.flying = False
        """A forward runs: it writes to the pages of whoever is in it."""
        self.stirred = asyncio.Event()
        """Somebody came or left since it was cleared."""
        self.finished = 0
        """Answers that came to their end so far."""

    def __iter__(self) -> Iterator[Generation]:
        return iter(list(self._members.values()))

    def __getitem__(self, number: int) -> Generation:
        return self._members[number]

    def __bool__(self) -> bool:
        return bool(self._members)

    @property
    def load(self) -> int:
        """Generations that wait or run, and are still wanted."""
        return len(self._members) - len(self._leaving)

    @property
    def rows_left(self) -> int:
        """Rows to compute before everybody's next token."""
        return sum(generation.sequence.left for generation in self._members.values())

    def join(self, generation: Generation) -> None:
        self._members[generation.sequence.number] = generation
        self.stirred.set()

    def take(self, now_unix_seconds: float) -> None:
        """Those who gave up while a forward ran leave; deadlines and full answers end."""
        leaving, self._leaving = self._leaving, []
        for generation in leaving:
            self._remove(generation)
        for generation in self:
            sequence = generation.sequence
            if sequence.deadline_unix_seconds < now_unix_seconds:
                self.end(generation, DeadlineExceeded("generation.deadline", "the deadline passed during generation"))
            elif len(sequence.tokens) >= sequence.max_length:
                self._finish(generation, "length")

    def append(self, generation: Generation, drawn: TokenDrawn) -> None:
        """The next token of an answer, or its end."""
        generation.enter(Phase.DECODING)
        drawn = settled(generation, drawn)
        if drawn.token in generation.stop_ids:
            self._finish(generation, "stop")
            return
        generation.append(drawn.token, drawn.logprobs)
        generation.sequence.losses = 0
        if len(generation.sequence.tokens) >= generation.sequence.max_length:
            self._finish(generation, "length")

    def end(self, generation: Generation, error: MoontideError) -> None:
        """Between two forwards."""
        generation.failure = generation.failure or error
        self._remove(generation)

    def end_all(self, error: MoontideError) -> None:
        self.flying = False
        for generation in self:
            self.end(generation, error)

    def fail(self, generation: Generation, error: MoontideError) -> None:
        """As ``end``, also while a forward runs on its pages."""
        generation.failure = generation.failure or error
        self.leave(generation)

    def leave(self, generation: Generation) -> None:
        """Nobody waits any more, or it has ended already."""
        if generation.sequence.number not in self._members or generation in self._leaving:
            return
        if generation.failure is None and not generation.ended:
            generation.failure = Cancelled("generation.cancelled", "nobody waits for this generation any more")
        generation.enter(Phase.ENDED)
        if self.flying:
            self._leaving.append(generation)
        else:
            self._remove(generation)
        self.stirred.set()

    def _finish(self, generation: Generation, reason: Literal["stop", "length"]) -> None:
        generation.finish_reason = reason
        self.finished += 1
        self._remove(generation)

    def _remove(self, generation: Generation) -> None:
        generation.enter(Phase.ENDED)
        if self._members.pop(generation.sequence.number, None) is not None:
            self._withdraw(generation.sequence)
