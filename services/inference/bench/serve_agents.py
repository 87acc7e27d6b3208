"""300 agents in a cache of half the size they need: what prefixes are worth, with the real schedule in virtual time.

Agents with shared and own prefixes call, wait for a tool, and call again with more. Schedule, page cache and eviction
are the real ones; forwards take virtual time. Output: prefix hits of an unlimited cache, and of one of half the
working set with announced pauses (believed within a factor) and as plain LRU.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from services.inference.cache import PageCache
from services.inference.schedule import Limits, State, advance, schedule, submit, withdraw
from services.inference.sequence import Sequence
from services.inference.shelf import Shelf

PAGE = 64
UNLIMITED_PAGES = 10**6
FORWARD_SECONDS, ROW_SECONDS = 0.01, 0.0003
SHARED_PREFIXES, SHARED_TOKENS = 10, 512
OWN_TOKENS = (500, 1500)
"""What an agent is given to work on, at first."""
LONG_PAUSES = 0.2
"""Share of tool calls that take minutes (a build, a test run, a person); the others take seconds."""


class PrefixHits(msgspec.Struct, frozen=True, kw_only=True):
    """Hits are cached tokens over prompt tokens, the first call of each agent apart."""

    agents: int
    calls_each: int
    working_set_pages: int
    cache_pages: int
    unlimited: float
    announced_pauses: float
    lru: float
    announced_of_unlimited: float
    lru_of_unlimited: float


@dataclass
class Agent:
    number: int
    rng: random.Random
    history: list[int] = field(default_factory=list)
    calls: int = 0
    pause: float = 0.0

    def prompt(self) -> list[int]:
        """What it sends next: everything so far, and the tool's result."""
        if not self.history:
            which = self.number % SHARED_PREFIXES
            own = self.rng.randrange(*OWN_TOKENS)
            self.history = [which] * SHARED_TOKENS + [self.rng.randrange(1000) for _ in range(own)]
        self.history += [self.rng.randrange(1000) for _ in range(self.rng.randrange(40, 160))]
        return list(self.history)

    def wait(self) -> float:
        """Seconds that its tool will take."""
        long = self.rng.random() < LONG_PAUSES
        return self.rng.uniform(120, 600) if long else 0.5 + self.rng.expovariate(1 / 4)


class Simulation:
    def __init__(self, agents: int, calls: int, pages: int, *, heed_pauses: bool, seed: int) -> None:
        self.state = State(
            PageCache(pages, PAGE, heed_pauses=heed_pauses), Shelf(1, 1), Limits(slots=32, slice_tokens=256)
        )
        self.rng = random.Random(seed)
        self.agents = [Agent(number, random.Random(seed * 1000 + number)) for number in range(agents)]
        self.calls, self.now, self.hits, self.prompts, self.numbers, self.used = calls, 0.0, 0, 0, 0, 0
        self.due = [(self.rng.uniform(0, 60), agent.number) for agent in self.agents]
        heapq.heapify(self.due)
        self.asking: dict[int, Agent] = {}

    def run(self) -> float:
        """Hit tokens over prompt tokens, the first call of each agent apart."""
        while self.due or self.asking:
            while self.due and self.due[0][0] <= self.now:
                self._ask(self.agents[heapq.heappop(self.due)[1]])
            works = schedule(self.state, self.now)
            if not works:
                self.now = max(self.now, self.due[0][0])
                continue
            self.now += FORWARD_SECONDS + ROW_SECONDS * sum(work.rows for work in works)
            for work in works:
                advance(self.state, work, self.now)
                if work.samples:
                    self._append(work.sequence)
        return self.hits / self.prompts

    def _ask(self, agent: Agent) -> None:
        prompt = agent.prompt()
        agent.pause = agent.wait()
        self.numbers += 1
        guess = agent.pause * self.rng.lognormvariate(0, 0.3)
        length = len(prompt) + self.rng.randrange(8, 24)
        owner = f"agents/{agent.number % 7}"
        sequence = Sequence(self.numbers, owner, prompt, len(prompt), length, pause_seconds=guess)
        self.asking[self.numbers] = agent
        submit(self.state, sequence)

    def _append(self, sequence: Sequence) -> None:
        sequence.tokens.append(self.rng.randrange(1000))
        if len(sequence.tokens) < sequence.max_length:
            return
        agent = self.asking.pop(sequence.number)
        agent.history = sequence.tokens
        agent.calls += 1
        if agent.calls > 1:
            self.hits += sequence.cached_tokens
            self.prompts += sequence.prompt
        withdraw(self.state, sequence, self.now)
        self.used = max(self.used, self.state.cache.cached)
        if agent.calls < self.calls:
            heapq.heappush(self.due, (self.now + agent.pause, agent.number))


def measure(agents: int, calls: int, seed: int, progress: Callable[[str], None] = lambda line: None) -> PrefixHits:
    unlimited = Simulation(agents, calls, UNLIMITED_PAGES, heed_pauses=True, seed=seed)
    progress(f"{agents} agents, unlimited cache")
    whole = unlimited.run()
    half = unlimited.used // 2
    progress(f"{agents} agents, {half} pages, announced pauses")
    announced = Simulation(agents, calls, half, heed_pauses=True, seed=seed).run()
    progress(f"{agents} agents, {half} pages, least recently used")
    lru = Simulation(agents, calls, half, heed_pauses=False, seed=seed).run()
    return PrefixHits(
        agents=agents,
        calls_each=calls,
        working_set_pages=unlimited.used,
        cache_pages=half,
        unlimited=round(whole, 4),
        announced_pauses=round(announced, 4),
        lru=round(lru, 4),
        announced_of_unlimited=round(announced / whole, 4),
        lru_of_unlimited=round(lru / whole, 4),
    )
