"""The decisions of a call, without any input or output: order of items, silence, when to try again and when to stop.

In: what arrived and the time. Out: what to do. Time is monotonic seconds unless a name says otherwise.
"""

import random
from dataclasses import dataclass, field
from enum import Enum, auto

from schemas.calls import CallBeat, CallEnded, CallItem, CallOutput
from shared.calls.interface import CallPolicy

FIRST_BACKOFF_SECONDS = 0.05
MAX_BACKOFF_SECONDS = 1.0
MAX_REFUSAL_SECONDS = 5.0


class Step(Enum):
    """What a caller does with a message of its callee."""

    TAKE = auto()
    """The next item."""
    IGNORE = auto()
    """A duplicate, or a beat that only shows life."""
    GAP = auto()
    """Something before it was lost."""
    END = auto()
    """The last message, and nothing is missing."""


class Sequence:
    """Which item of an attempt comes next."""

    def __init__(self) -> None:
        self.next = 0

    def step(self, message: CallOutput) -> Step:
        match message:
            case CallItem(sequence=sequence) if sequence == self.next:
                self.next += 1
                return Step.TAKE
            case CallItem(sequence=sequence):
                return Step.GAP if sequence > self.next else Step.IGNORE
            case CallBeat(next_sequence=sequence):
                return Step.GAP if sequence > self.next else Step.IGNORE
            case CallEnded(next_sequence=sequence):
                return Step.GAP if sequence > self.next else Step.END


class Attempts:
    """When to try again, how long to wait, and when one interruption has lasted too long.

    An attempt counts when it was admitted and ended without progress; refusals and missing responders count by time
    only, since a callee that restarts or is full needs time and not tries. Time counts while nobody serves: from the
    last sign of life to the next admission. Progress (an item) ends the interruption.
    """

    def __init__(self, policy: CallPolicy, now: float, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng
        self._idle_since: float | None = now
        self._idle_seconds = 0.0
        self._fruitless = 0
        self._failures = 0
        self.number = 0

    def opened(self) -> int:
        """Number of the attempt that begins, from 1."""
        self.number += 1
        return self.number

    def admitted(self, now: float) -> None:
        self._fruitless += 1
        self._idle_seconds += self._idle(now)
        self._idle_since = None

    def progressed(self) -> None:
        self._fruitless = 0
        self._failures = 0
        self._idle_seconds = 0.0

    def failed(self, last_life: float) -> None:
        """The attempt is over; its callee was last heard of at ``last_life``."""
        self._failures += 1
        if self._idle_since is None:
            self._idle_since = last_life

    def is_exhausted(self, now: float) -> bool:
        if self._fruitless >= self._policy.attempts:
            return True
        return self._idle_seconds + self._idle(now) >= self._policy.recovery_seconds

    def wait_seconds(self, retry_after_seconds: float | None) -> float:
        """Before the next attempt: short, growing, jittered; at least what a refusal asks for (within reason)."""
        growing = min(FIRST_BACKOFF_SECONDS * 2 ** min(self._failures, 10), MAX_BACKOFF_SECONDS)
        asked = min(retry_after_seconds or 0.0, MAX_REFUSAL_SECONDS)
        return max(growing * self._rng.uniform(0.5, 1.0), asked * self._rng.uniform(1.0, 1.25))

    def _idle(self, now: float) -> float:
        return 0.0 if self._idle_since is None else max(now - self._idle_since, 0.0)


@dataclass
class Watch:
    """When the other side was last heard of, and how long it may stay silent."""

    silence_seconds: float
    last_life: float = field(default=0.0)

    def heard(self, now: float) -> None:
        self.last_life = now

    def left_seconds(self, now: float) -> float:
        """How long to wait for the next message before the other side counts as dead."""
        return max(self.last_life + self.silence_seconds - now, 0.0)
