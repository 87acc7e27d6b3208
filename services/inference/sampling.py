"""Choosing the next token: pure arithmetic over one row of logits, independent of everything else in a forward batch.

Order: repetition penalty, presence and frequency penalty, bias, forbidden ids and mask, temperature, then of the tokens
from likeliest to least (the lower id first on a tie) the first ``top_k``, of those the fewest that reach ``top_p``, of
those the ones with at least ``min_p`` of the likeliest's probability. A draw depends on (seed, position) only.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from schemas.generation import Logprobs
from schemas.shards import Draw, SamplingRule, SequenceOpened, TokenDrawn
from shared.errors import BadInput

KEY_BITS = 2**64
COLDEST = 1e-6
"""Up to this temperature the likeliest token is taken."""
BUCKET_SHIFT = 17
"""Bits of a float32 that weights in one bucket may differ in: 64 buckets between a number and its double."""
ROWS = 64
"""Scores of which only the largest is looked at first."""
LAST_BUCKET = int(np.float32(1).view(np.int32)) >> BUCKET_SHIFT

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
            ids = np.flatnonzero(self._counts)
            once = scores[ids] - np.float32(rule.presence_penalty)
            scores[ids] = once - np.float32(rule.frequency_penalty) * self._counts[ids].astype(np.float32)
        if len(self._bias_ids):
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
    with np.errstate(over="ignore"):  # far below the largest, a score over a small temperature is -inf: weight 0
        weights = np.exp((scores - scores.max()) / np.float32(rule.temperature))
    ids = None
    if 0 < rule.top_k < len(scores):
        ids = ranked(scores, rule.top_k)
        scores, weights = scores[ids], weights[ids]
    whole = float(weights.sum(dtype=np.float64))
    if rule.min_p:  # arXiv 2407.01082; the largest weight is 1
        weights *= weights >= np.float32(rule.min_p)
    line = Line(scores, weights)
    mass = line.total
    if rule.top_p < 1:  # nucleus sampling, arXiv 1904.09751
        mass = line.find(rule.top_p * whole, "left")[1]
    place = line.find(min(number * mass, float(np.nextafter(mass, 0))), "right")[0]
    return place if ids is None else int(ids[place])


class Line:
    """Weights [W] in [0, 1], the largest 1, as lengths along a line, the likeliest token first.

    Weights whose first bits are equal share a bucket; buckets are in order, and only the one asked for is sorted.
    """

    def __init__(self, scores: Row, weights: Row) -> None:
        self._scores, self._weights = scores, weights
        self._bucket = LAST_BUCKET - (weights.view(np.int32) >> BUCKET_SHIFT)  # positive floats order as their bits
        self._ends = np.bincount(self._bucket, weights=weights, minlength=LAST_BUCKET + 1).cumsum()
        self.total = float(self._ends[-1])

    def find(self, length: float, side: Literal["left", "right"]) -> tuple[int, float]:
        """The first token whose end is at least ("left") or beyond ("right") ``length``, and its end. Behind the line
        it is the last one that has any weight."""
        length = min(length, float(np.nextafter(self.total, 0)))
        bucket = int(np.searchsorted(self._ends, length, side))
        places = np.flatnonzero(self._bucket == bucket)
        places = places[order(self._scores[places])]
        ends = np.cumsum(self._weights[places], dtype=np.float64)
        if bucket:
            ends += self._ends[bucket - 1]
        index = min(int(np.searchsorted(ends, length, side)), len(places) - 1)
        return int(places[index]), float(ends[index])


def ranked(scores: Row, count: int) -> NDArray[np.int64]:
    """The ids of the ``count`` largest scores, the largest first, the lower id first on a tie."""
    if count >= len(scores):
        return order(scores)
    columns = scores[: len(scores) // ROWS * ROWS].reshape(ROWS, -1)
    heads = columns.max(axis=0) if columns.shape[1] >= count else scores  # each has one score that high
    border = np.partition(heads, len(heads) - count)[len(heads) - count]
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
    largest = float(logits.max())
    powers = np.subtract(wide, largest)
    total = largest + np.log(np.exp(powers, out=powers).sum())
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
