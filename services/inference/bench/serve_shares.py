"""Fair shares of four keys, and what a flood costs the others: the real schedule in virtual time, forward by forward.

Input: a seed and how many forwards. Output: rows computed per key against its weight, and forwards to a first token
beside a flood against the stated bound: with n keys of equal weight n · ⌈L / slice⌉ + 2 for L uncached tokens.
"""

import random
from collections import Counter
from collections.abc import Callable

import msgspec

from services.inference.cache import PageCache
from services.inference.fairness import FairShare
from services.inference.schedule import Limits, State, Work, advance, schedule, submit, withdraw
from services.inference.sequence import Sequence
from services.inference.shelf import Shelf

PAGE = 64
FORWARD_SECONDS = 0.05
WEIGHTS = {"keys/a": 1.0, "keys/b": 2.0, "keys/c": 3.0, "keys/d": 4.0}
QUEUED = 12
"""Requests that each key always has waiting."""
WARM_UP = 0.1
FLOODING, FLOOD = 4, 300
"""Keys that flood in turn beside the quiet one (1, 2 … of them), and requests of the flood."""
PROMPTS = (30, 200, 640, 2000)
"""Tokens of the quiet key's prompts."""


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    forwards: int
    weights: dict[str, float]
    row_shares: dict[str, float]
    largest_deviation: float
    """Of a key's share from its weight's, relative."""


class FloodDelay(msgspec.Struct, frozen=True, kw_only=True):
    keys: int
    prompt_tokens: int
    forwards_to_first_token: int
    bound_forwards: int


class Desk:
    """A schedule that is stepped by hand."""

    def __init__(self, seed: int, limits: Limits, weights: dict[str, float]) -> None:
        self.state = State(PageCache(2000, PAGE), Shelf(1, 1), limits, FairShare(weights))
        self.rng, self.now, self.numbers = random.Random(seed), 0.0, 0
        self.rows: Counter[str] = Counter()

    def ask(self, owner: str, prompt: int, answer: int) -> Sequence:
        self.numbers += 1
        tokens = [self.rng.randrange(10**6) for _ in range(prompt)]
        sequence = Sequence(self.numbers, owner, tokens, prompt, prompt + answer)
        submit(self.state, sequence)
        return sequence

    def step(self) -> None:
        self.now += FORWARD_SECONDS
        for work in schedule(self.state, self.now):
            advance(self.state, work, self.now)
            self.rows[work.sequence.owner] += work.rows
            self._sample(work)

    def _sample(self, work: Work) -> None:
        if work.samples:
            work.sequence.tokens.append(0)
            if len(work.sequence.tokens) >= work.sequence.max_length:
                withdraw(self.state, work.sequence, self.now)


def shares(seed: int, forwards: int, progress: Callable[[str], None] = lambda line: None) -> Shares:
    """Of keys that always want more."""
    progress(f"fair shares over {forwards} forwards")
    desk = Desk(seed, Limits(slots=16, slice_tokens=256), WEIGHTS)
    for number in range(forwards):
        for owner in WEIGHTS:
            waiting = sum(sequence.owner == owner for sequence in desk.state.interactive)
            for _ in range(QUEUED - waiting):
                desk.ask(owner, desk.rng.randrange(5, 1200), desk.rng.randrange(5, 80))
        desk.step()
        if number == int(forwards * WARM_UP):
            desk.rows.clear()
    found = {owner: desk.rows[owner] / desk.rows.total() for owner in WEIGHTS}
    wanted = {owner: weight / sum(WEIGHTS.values()) for owner, weight in WEIGHTS.items()}
    return Shares(
        forwards=forwards,
        weights=WEIGHTS,
        row_shares={owner: round(share, 4) for owner, share in found.items()},
        largest_deviation=round(max(abs(found[owner] / wanted[owner] - 1) for owner in WEIGHTS), 4),
    )


def floods(seed: int, progress: Callable[[str], None] = lambda line: None) -> list[FloodDelay]:
    """A quiet key beside one, and beside more, that flood."""
    rows: list[FloodDelay] = []
    for flooding in (1, FLOODING - 1):
        progress(f"first token beside {flooding} keys that flood")
        rows += [_beside(seed, flooding, prompt) for prompt in PROMPTS]
    return rows


def _beside(seed: int, flooding: int, prompt: int) -> FloodDelay:
    limits = Limits(slots=16, slice_tokens=256)
    desk = Desk(seed, limits, {})
    for number in range(FLOOD):
        desk.ask(f"flood/{number % flooding}", desk.rng.randrange(50, 2000), desk.rng.randrange(100, 500))
    for _ in range(50):
        desk.step()
    quiet = desk.ask("quiet/1", prompt, 5)
    forwards = 0
    while len(quiet.tokens) == prompt:
        desk.step()
        forwards += 1
    keys = flooding + 1
    bound = keys * -(-prompt // limits.slice_tokens) + 2
    return FloodDelay(keys=keys, prompt_tokens=prompt, forwards_to_first_token=forwards, bound_forwards=bound)
