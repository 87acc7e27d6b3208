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
BORDERS = tuple(np.float32(border) for border in (2.0**-5, 2.0**-9, 2.0**-14, 2.0**-22, 0.0))
"""Of weight, where the likeliest token has 1: what lies below is only sorted when it is needed."""

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
    """The id that ``number`` in [0, 1) falls on, by inversion over the tokens that are kept, likeliest first.

    Only tokens above a border of weight are sorted; it is lowered until they suffice. The result does not depend on it.
    """
    with np.errstate(over="ignore"):  # far below the largest, a score over a small temperature is -inf: weight 0
        weights = np.exp((scores - scores.max()) / np.float32(rule.temperature))
    total = float(weights.sum(dtype=np.float64))
    ids = reached = np.empty(0)
    for border in BORDERS:
        ids = np.flatnonzero(weights >= border)
        if rule.top_k and len(ids) < rule.top_k and border:
            continue
        ids = ids[order(scores[ids])][: rule.top_k or None]
        reached = np.cumsum(weights[ids], dtype=np.float64)
        if rule.top_k or _suffices(float(border), float(reached[-1]), total, rule, number):
            break
    if rule.top_k:
        total = float(reached[-1])
    kept = _kept(weights[ids], reached, total, rule)
    mass = total if rule.top_p == 1 and not rule.min_p else float(reached[kept - 1])
    return int(ids[min(int(np.searchsorted(reached[:kept], number * mass, side="right")), kept - 1)])


def _suffices(border: float, reached: float, total: float, rule: SamplingRule, number: float) -> bool:
    """Whether the tokens above ``border`` hold all that are kept, or the one drawn."""
    if rule.top_p < 1:
        return reached >= rule.top_p * total
    return border <= rule.min_p if rule.min_p else reached > number * total


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
        return order(scores)
    border = np.partition(scores, len(scores) - count)[len(scores) - count]
    ids = np.flatnonzero(scores >= border)
    return ids[order(scores[ids])][:count]


def order(scores: Row) -> NDArray[np.int64]:
    """Places of the scores, the largest first, the lower place first on a tie. One sort of integers: a float's bits,
    turned so that they order as the number does (all of a negative one, else the sign), then the place."""
    bits = (scores + np.float32(0)).view(np.uint32)  # -0 becomes 0
    rising = bits ^ np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))
    keys = (~rising).astype(np.uint64) << np.uint64(32) | np.arange(len(scores), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


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
