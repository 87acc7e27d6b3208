"""Choosing the next token: pure arithmetic over one row of logits.

Input: logits, the rule of the request, the position of the token among the emitted ones. Output: one id. A draw
depends on (seed, position) only, so that a resumed request draws what it would have drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.generation import ThinkingLimit

KEY_BITS = 2**64


@dataclass(frozen=True)
class SamplingRule:
    temperature: float
    top_p: float
    seed: int
    forbidden: NDArray[np.int64] | None = None
    """Ids that must not be chosen, each inside the vocabulary."""
    thinking: ThinkingLimit | None = None


def choose(logits: NDArray[np.float32], rule: SamplingRule, emitted: Sequence[int]) -> int:
    """The id at position ``len(emitted)``. Temperature 0 takes the largest logit, the lowest id on a tie."""
    position = len(emitted)
    limit = rule.thinking
    if limit is not None and position == limit.budget_tokens and limit.end_id not in emitted:
        return limit.end_id
    scores = logits.astype(np.float64)
    if rule.forbidden is not None:
        scores[rule.forbidden] = -np.inf
    if rule.temperature == 0:
        return int(scores.argmax())
    return _draw(probabilities(scores, rule.temperature), rule.top_p, uniform(rule.seed, position))


def probabilities(scores: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Softmax of scores / temperature. The largest is subtracted first, so that a tiny temperature cannot overflow."""
    weights = np.exp((scores - scores.max()) / temperature)
    return weights / weights.sum()


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) from Philox4x64 (Salmon et al., SC 2011) with the seed as key and the position as counter."""
    key = np.array([seed % KEY_BITS, 0], dtype=np.uint64)  # arrays: in a list large integers would become floats
    counter = np.array([0, position, 0, 0], dtype=np.uint64)
    return float(np.random.Generator(np.random.Philox(key=key, counter=counter)).random())


def _draw(weights: NDArray[np.float64], top_p: float, number: float) -> int:
    """Nucleus sampling (arXiv 1904.09751): the smallest set of likeliest ids that reaches ``top_p``, then inversion."""
    order = np.argsort(-weights, kind="stable")
    reached = np.cumsum(weights[order])
    kept = min(int(np.searchsorted(reached, top_p * reached[-1])) + 1, int(np.count_nonzero(weights)))
    return int(order[np.searchsorted(reached[:kept], number * reached[kept - 1], side="right")])
