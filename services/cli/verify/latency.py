"""Latency of streams: to the first token and between tokens, at each concurrency. Reported, not judged."""

import math
from collections.abc import Sequence
from itertools import pairwise

from services.cli.verify.judgement import Refused, require
from services.cli.verify.probe import Probe
from services.cli.verify.streams import question

SAMPLES = 8
MILLISECONDS = 1000


async def tokens(probe: Probe) -> dict[str, dict[str, float]]:
    """Milliseconds by concurrency; what an endpoint sends as one piece counts as one token. Levels that it refuses
    are left out."""
    measured: dict[str, dict[str, float]] = {}
    for level in probe.target.concurrency:
        try:
            measured[str(level)] = await _level(probe, level)
        except Refused:
            if not measured:
                raise
    return measured


async def _level(probe: Probe, level: int) -> dict[str, float]:
    bodies = [probe.body(question(100 + number)) for number in range(max(level, SAMPLES))]
    replies = await probe.each(lambda body: probe.streamed(body, at_once=level), bodies, level)
    timed = [reply.word_seconds for reply in replies if reply.word_seconds]
    require(bool(timed), "no stream carries any text", replies[0].exchange)
    gaps = [later - earlier for seconds in timed for earlier, later in pairwise(seconds)]
    firsts = [seconds[0] for seconds in timed]
    return {
        "first_token_p50_ms": quantile(firsts, 0.5),
        "first_token_p95_ms": quantile(firsts, 0.95),
        "between_tokens_p50_ms": quantile(gaps, 0.5),
        "between_tokens_p95_ms": quantile(gaps, 0.95),
    }


def quantile(seconds: Sequence[float], share: float) -> float:
    """The nearest-rank quantile in milliseconds; 0 of nothing."""
    if not seconds:
        return 0.0
    ordered = sorted(seconds)
    rank = max(1, math.ceil(share * len(ordered)))
    return round(ordered[rank - 1] * MILLISECONDS, 2)
