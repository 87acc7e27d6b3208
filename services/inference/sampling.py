"""Choosing the next token: pure arithmetic over one row of logits, independent of everything else in a forward batch.

Order: repetition penalty, presence and frequency penalty, bias, forbidden ids and mask, temperature, then of the tokens
from likeliest to least (the lower id first on a tie) the first ``top_k``, of those the fewest that reach ``top_p``, of
those the ones with at least ``min_p`` of the likeliest's probability. A draw depends on (seed, position) only.
"""

import numpy as np
from numpy.typing import NDArray

from schemas.generation import Logprobs
from schemas.shards import Draw, SamplingRule, SequenceOpened, TokenDrawn
from shared.errors import BadInput

KEY_BITS = 2**64
COLDEST = 1e-6
"""Up to this temperature the likeliest token is taken."""
FIRST_RANKS, MORE_RANKS = 256, 16
"""How many of the likeliest tokens are sorted at first, and by how much that grows until they suffice."""

Row = NDArray[np.float32]


class Sampler:
    """Chooses the tokens of one sequence. ``draw`` changes nothing; ``keep`` counts what became part of the answer."""

    def __init__(self, opened: SequenceOpened, vocabulary: int) -> None:
        rule = opened.rule
        self._sequence, self._rule, self._vocabulary = opened.sequence, rule, vocabulary
        self._forbidden = np.flatnonzero(bits(rule.forbidden, vocabulary)) if rule.forbidden else None
        self._bias_ids = np.array([token for token, _ in rule.logit_bias], dtype=np.int64)
        self._biases = np.array([bias for _, bias in rule.logit_bias], dtype=np.float32)
        self._seen = self._counts = None
        if rule.presence_penalty or rule.frequency_penalty:
            self._counts = np.bincount(_ids(opened.emitted), minlength=vocabulary).astype(np.int32)
        if rule.repetition_penalty != 1.0:
            self._seen = np.zeros(vocabulary, dtype=bool)
            self._seen[_ids(opened.context)] = True
            self._seen[_ids(opened.emitted)] = True

    def draw(self, logits: Row, draw: Draw) -> TokenDrawn:
        """logits [W] float32, not changed."""
        token = self._choose(logits, draw) if draw.forced is None else draw.forced
        top = self._rule.top_logprobs
        return TokenDrawn(
            sequence=self._sequence, token=token, logprobs=None if top is None else logprobs(logits, token, top)
        )

    def keep(self, token: int) -> None:
        if self._counts is not None:
            self._counts[token] += 1
        if self._seen is not None:
            self._seen[token] = True

    def _choose(self, logits: Row, draw: Draw) -> int:
        scores = self._scores(logits, draw.mask)
        if self._rule.temperature <= COLDEST:
            return int(scores.argmax())
        return choose(scores, self._rule, uniform(self._rule.seed, draw.position))

    def _scores(self, logits: Row, mask: bytes) -> Row:
        rule = self._rule
        changed = self._forbidden is not None or self._counts is not None or self._seen is not None
        if not (changed or len(self._bias_ids) or mask):
            return logits
        scores = logits.copy()
        if self._seen is not None:
            penalty = np.float32(rule.repetition_penalty)
            seen = scores[self._seen]
            scores[self._seen] = np.where(seen > 0, seen / penalty, seen * penalty)
        if self._counts is not None:
            scores -= np.float32(rule.presence_penalty) * (self._counts > 0)
            scores -= np.float32(rule.frequency_penalty) * self._counts.astype(np.float32)
        np.add.at(scores, self._bias_ids, self._biases)
        if self._forbidden is not None:
            scores[self._forbidden] = -np.inf
        if mask:
            scores[~bits(mask, self._vocabulary)] = -np.inf
        if scores.max() == -np.inf:
            raise BadInput(
                "generation.dead_end", "no token is allowed here", param="grammar" if mask else "forbidden_ids"
            )
        return scores


def choose(scores: Row, rule: SamplingRule, number: float) -> int:
    """The id that ``number`` in [0, 1) falls on, by inversion over the tokens that are kept, likeliest first."""
    largest = scores.max()
    with np.errstate(over="ignore"):  # far below the largest, a score over a small temperature is -inf: weight 0
        weights = np.exp((scores - largest) / np.float32(rule.temperature))
    ranks = min(rule.top_k or FIRST_RANKS, len(scores))
    total = float(weights.sum(dtype=np.float64)) if not rule.top_k else 0.0
    while True:
        ids = ranked(scores, ranks)
        reached = np.cumsum(weights[ids], dtype=np.float64)
        if rule.top_k:
            total = float(reached[-1])
        if rule.top_k or ranks == len(scores) or _suffices(weights[ids[-1]], reached[-1], total, rule, number):
            break
        ranks = min(ranks * MORE_RANKS, len(scores))
    kept = _kept(weights[ids], reached, total, rule)
    mass = total if rule.top_p == 1 and not rule.min_p else float(reached[kept - 1])
    return int(ids[min(int(np.searchsorted(reached[:kept], number * mass, side="right")), kept - 1)])


def _suffices(last: np.float32, reached: float, total: float, rule: SamplingRule, number: float) -> bool:
    """Whether the ranked tokens, of which ``last`` is the smallest weight, hold all that are kept, or the one drawn."""
    if rule.top_p < 1:
        return bool(reached >= rule.top_p * total)
    return bool(last < rule.min_p) if rule.min_p else bool(reached > number * total)


def _kept(weights: Row, reached: NDArray[np.float64], total: float, rule: SamplingRule) -> int:
    kept = int(np.count_nonzero(weights))
    if rule.top_p < 1:  # nucleus sampling, arXiv 1904.09751
        kept = min(kept, int(np.searchsorted(reached, rule.top_p * total)) + 1)
    if rule.min_p:  # arXiv 2407.01082; the largest weight is 1
        kept = min(kept, int(np.count_nonzero(weights >= np.float32(rule.min_p))))
    return max(kept, 1)


def ranked(scores: Row, count: int) -> NDArray[np.int64]:
    """The ids of the ``count`` largest scores, the largest first, the lower id first on a tie."""
    if count >= len(scores):
        return np.argsort(-scores, kind="stable")
    border = np.partition(scores, len(scores) - count)[len(scores) - count]
    ids = np.flatnonzero(scores >= border)
    return ids[np.argsort(-scores[ids], kind="stable")][:count]


def logprobs(logits: Row, token: int, top: int) -> Logprobs:
    """Log-softmax of the model's own logits, in float64: of ``token``, and of the ``top`` likeliest."""
    wide = logits.astype(np.float64)
    largest = wide.max()
    total = largest + np.log(np.exp(wide - largest).sum())
    ids = ranked(logits, top) if top else np.empty(0, dtype=np.int64)
    return Logprobs(
        chosen=float(wide[token] - total), top_ids=tuple(ids.tolist()), top=tuple((wide[ids] - total).tolist())
    )


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) from Philox4x64 (Salmon et al., SC 2011) with the seed as key and the position as counter."""
    key = np.array([seed % KEY_BITS, 0], dtype=np.uint64)  # arrays: in a list large integers would become floats
    counter = np.array([0, position, 0, 0], dtype=np.uint64)
    return float(np.random.Generator(np.random.Philox(key=key, counter=counter)).random())


def bits(packed: bytes, count: int) -> NDArray[np.bool_]:
    """[count] booleans from bits, the lowest of a byte first; what is missing is false."""
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=count, bitorder="little").astype(bool)


def _ids(data: bytes) -> NDArray[np.int64]:
    return np.frombuffer(data, dtype="<u4").astype(np.int64)
