"""Who calls, when, and with what: made-up sessions in the shapes of real ones. Pure.

Input: seed, rate, vocabulary. Output: ``Session`` after session, in order of arrival (Poisson). Agents share one of a
few long prefixes, call again after their tools' pauses with all that was said, and announce each pause about right;
chats come once, short or long; pictures are few and seen again.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["agent", "chat", "picture"]

KINDS: tuple[Kind, ...] = ("agent", "agent", "chat", "picture")
SHARED_PREFIXES, SHARED_TOKENS = 4, 256
PICTURES = ((1, 4, 6), (1, 2, 8), (3, 4, 6))
"""Grids of patches; the third is a clip's chunk of three frames."""
PLACEHOLDER = 9
MOST_PROMPT_TOKENS = 900


@dataclass(frozen=True)
class Call:
    tokens: tuple[int, ...]
    """What is new in this prompt."""
    answer_tokens: int
    pause_seconds: float = 0.0
    """Before the session's next call; 0 for the last one."""
    announced_seconds: float = 0.0
    grid: tuple[int, int, int] | None = None
    """A picture, behind ``tokens``."""


@dataclass(frozen=True)
class Session:
    arrives_seconds: float
    kind: Kind
    owner: str
    calls: tuple[Call, ...]


def sessions(seed: int, per_second: float, vocabulary: int) -> Iterator[Session]:
    """Without end."""
    rng = random.Random(seed)
    shared = [_ids(rng, SHARED_TOKENS, vocabulary) for _ in range(SHARED_PREFIXES)]
    now, count = 0.0, 0
    while True:
        now += rng.expovariate(per_second)
        count += 1
        kind = rng.choice(KINDS)
        yield Session(now, kind, f"bench/{count % 5}", _calls(rng, kind, shared, vocabulary))


def _calls(rng: random.Random, kind: Kind, shared: list[tuple[int, ...]], vocabulary: int) -> tuple[Call, ...]:
    if kind == "chat":
        length = min(int(rng.lognormvariate(4.0, 1.0)) + 1, MOST_PROMPT_TOKENS)
        return (Call(_ids(rng, length, vocabulary), rng.randrange(8, 48)),)
    if kind == "picture":
        return (Call(_ids(rng, rng.randrange(8, 40), vocabulary), rng.randrange(8, 24), grid=rng.choice(PICTURES)),)
    first = (*rng.choice(shared), *_ids(rng, rng.randrange(20, 200), vocabulary))
    calls = [_agent_call(rng, first)]
    for _ in range(rng.randrange(1, 4)):
        calls.append(_agent_call(rng, _ids(rng, rng.randrange(10, 60), vocabulary)))
    return (*calls[:-1], Call(calls[-1].tokens, calls[-1].answer_tokens))


def _agent_call(rng: random.Random, tokens: tuple[int, ...]) -> Call:
    pause = 0.2 + rng.expovariate(1.0)
    return Call(tokens, rng.randrange(8, 32), pause, pause * rng.lognormvariate(0, 0.3))


def _ids(rng: random.Random, count: int, vocabulary: int) -> tuple[int, ...]:
    return tuple(rng.randrange(vocabulary) for _ in range(count))
