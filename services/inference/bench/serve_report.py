"""What ``bench serve`` found: the figures, and how they look to people. Pure.

Input: a ``Tally`` and the parts in virtual time. Output: ``ServeReport``, and ``table`` of it.
"""

import statistics
from collections.abc import Iterator, Sequence

import msgspec

from services.inference.bench.serve_agents import PrefixHits
from services.inference.bench.serve_load import Tally
from services.inference.bench.serve_shares import FloodDelay, Shares

LEAST_OF_UNLIMITED, MOST_DEVIATION = 0.9, 0.1
BAR = 40


class Times(msgspec.Struct, frozen=True, kw_only=True):
    p50: float
    p99: float


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The engine under arrivals, in real time."""

    seconds: float
    sessions_per_second: float
    calls: int
    refused_busy: int
    media: int
    prompt_tokens: int
    answer_tokens: int
    answer_tokens_per_second: float
    first_token_seconds: Times
    """From arrival, waiting included."""
    time_per_token_seconds: Times
    prefix_hits: float
    """Cached tokens over prompt tokens."""
    largest_batch: int
    preempted: int


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    formula: str
    page_tokens: int
    page_bytes: int
    page_bytes_by_formula: int
    cache_pages: int
    cache_bytes: int
    peak_running_pages: int
    peak_running_bytes: int
    sequences_off_formula: int
    """Sightings of a sequence with another number of pages than its length says."""
    pages_lost: int
    """Neither free nor an idle prefix after the last call."""


class ServeReport(msgspec.Struct, frozen=True, kw_only=True):
    seed: int
    load: Load
    memory: Memory
    prefixes: PrefixHits
    fairness: Shares
    flood: list[FloodDelay]
    flood_bound: str = "keys * ceil(prompt_tokens / slice_tokens) + 2 forwards"

    @property
    def kept(self) -> bool:
        """Whether everything promised holds."""
        return (
            self.prefixes.announced_of_unlimited >= LEAST_OF_UNLIMITED
            and self.fairness.largest_deviation <= MOST_DEVIATION
            and all(row.forwards_to_first_token <= row.bound_forwards for row in self.flood)
            and self.memory.page_bytes == self.memory.page_bytes_by_formula
            and not self.memory.sequences_off_formula
            and not self.memory.pages_lost
        )


def times(seconds: Sequence[float]) -> Times:
    if len(seconds) < 2:
        return Times(p50=sum(seconds), p99=sum(seconds))
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return Times(p50=round(cuts[49], 6), p99=round(cuts[98], 6))


def load(tally: Tally, seconds: float, per_second: float, largest_batch: int, preempted: int) -> Load:
    return Load(
        seconds=round(seconds, 3),
        sessions_per_second=per_second,
        calls=tally.calls,
        refused_busy=tally.busy,
        media=tally.media,
        prompt_tokens=tally.prompt_tokens,
        answer_tokens=tally.answer_tokens,
        answer_tokens_per_second=round(tally.answer_tokens / seconds, 2),
        first_token_seconds=times(tally.first_token_seconds),
        time_per_token_seconds=times(tally.token_seconds),
        prefix_hits=round(tally.cached_tokens / max(1, tally.prompt_tokens), 4),
        largest_batch=largest_batch,
        preempted=preempted,
    )


def table(report: ServeReport) -> str:
    return "\n".join(
        (*_load(report), "", *_prefixes(report.prefixes), "", *_shares(report.fairness), "", *_flood(report))
    )


def _load(report: ServeReport) -> Iterator[str]:
    found, memory = report.load, report.memory
    first, each = found.first_token_seconds, found.time_per_token_seconds
    yield f"{found.calls} calls in {found.seconds:.1f} s, {found.answer_tokens_per_second:,.1f} tokens/s"
    yield f"  first token     p50 {first.p50 * 1e3:8.1f} ms   p99 {first.p99 * 1e3:8.1f} ms"
    yield f"  time per token  p50 {each.p50 * 1e3:8.1f} ms   p99 {each.p99 * 1e3:8.1f} ms"
    yield f"  prefix hits     {found.prefix_hits:.1%} of {found.prompt_tokens:,} prompt tokens, {found.media} pictures"
    yield f"  memory          {memory.peak_running_pages} of {memory.cache_pages} pages at most ({memory.formula})"


def _prefixes(found: PrefixHits) -> Iterator[str]:
    yield f"prefix hits of {found.agents} agents, {found.cache_pages:,} pages for {found.working_set_pages:,}"
    yield _bar("unlimited", found.unlimited)
    yield _bar("announced pauses", found.announced_pauses, f"{found.announced_of_unlimited:.1%} of unlimited")
    yield _bar("plain LRU", found.lru, f"{found.lru_of_unlimited:.1%} of unlimited")


def _shares(found: Shares) -> Iterator[str]:
    yield f"rows per key, at most {found.largest_deviation:.1%} from its weight"
    for owner, share in found.row_shares.items():
        yield _bar(owner, share, f"weight {found.weights[owner]:g}")


def _flood(report: ServeReport) -> Iterator[str]:
    yield f"forwards to a first token beside a flood (bound: {report.flood_bound})"
    for row in report.flood:
        name = f"{row.keys} keys, {row.prompt_tokens} tokens"
        yield _bar(
            name,
            row.forwards_to_first_token / row.bound_forwards,
            f"{row.forwards_to_first_token} of {row.bound_forwards}",
        )


def _bar(name: str, share: float, words: str = "") -> str:
    full = round(share * BAR)
    return f"  {name:<22} {'█' * full}{'·' * (BAR - full)} {share:6.1%}  {words}".rstrip()
