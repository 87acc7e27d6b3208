"""Which token a number falls on, and logprobs: exact cuts without sorting a vocabulary, in numpy.

Input: ``kernels.draws.DrawRow``. Output: ``DrawnRow``. A row's result depends on that row only.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels.draws import DEAD_END, Changes, DrawnRow, DrawRow, Row

BUCKET_SHIFT = 17
"""Bits of a float32 that weights in one bucket may differ in: 64 buckets between a number and its double."""
ROWS = 64
"""Scores of which only the largest is looked at first."""
LAST_BUCKET = int(np.float32(1).view(np.int32)) >> BUCKET_SHIFT
TAIL_SLACK = 0.5
"""Of what a nucleus leaves out, so much may be dropped before the sum: far more than rounding."""


class Desk:
    """Arrays for the work on one row at a time. Fresh ones of this size would be mapped and cleared by the system for
    each row, which takes longer than the arithmetic."""

    def __init__(self, vocabulary: int) -> None:
        self.weights = np.empty(vocabulary, dtype=np.float32)
        self.wide = np.empty(vocabulary, dtype=np.float64)
        self.buckets = np.empty(vocabulary, dtype=np.int64)


def draw(row: DrawRow, desk: Desk) -> DrawnRow:
    token = row.forced
    if token is None:
        scores = changed(row.logits, row.changes)
        if scores.max() == -np.inf:
            return DrawnRow(DEAD_END)
        token = int(scores.argmax()) if row.temperature == 0 else choose(scores, row, desk)
    return DrawnRow(token) if row.top_logprobs is None else logprobs(row.logits, token, row.top_logprobs, desk)


def changed(logits: Row, changes: Changes) -> Row:
    if changes.nothing:
        return logits
    scores = logits.copy()
    penalty, seen = np.float32(changes.repetition), scores[changes.seen]
    scores[changes.seen] = np.where(seen > 0, seen / penalty, seen * penalty)
    once = scores[changes.counted] - np.float32(changes.presence)
    scores[changes.counted] = once - np.float32(changes.frequency) * changes.counts
    np.add.at(scores, changes.biased, changes.biases)
    scores[changes.forbidden] = -np.inf
    if changes.mask:
        scores[~bits(changes.mask, len(scores))] = -np.inf
    return scores


def bits(packed: bytes, count: int) -> NDArray[np.bool_]:
    """[count] booleans from bits, at least one byte, the lowest of a byte first; what is missing is false."""
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=count, bitorder="little").astype(bool)


def choose(scores: Row, row: DrawRow, desk: Desk) -> int:
    """The id that ``number`` falls on, by inversion over the tokens that are kept, likeliest first."""
    weights = _weights(scores, row.temperature, desk.weights[: len(scores)])
    ids = None
    if 0 < row.top_k < len(scores):
        ids = ranked(scores, row.top_k)
        scores, weights = scores[ids], weights[ids]
    whole = float(weights.sum(dtype=np.float64))
    least = _least(row, whole, len(weights))
    if least:
        kept = weights >= least
        places = np.flatnonzero(kept) if 2 * np.count_nonzero(kept) < len(kept) else None
        if places is not None:
            ids = places if ids is None else ids[places]
            scores, weights = scores[places], weights[places]
        elif row.min_p:
            weights *= kept
    place = _place(Line(scores, weights, desk), row.top_p, whole, row.number)
    return place if ids is None else int(ids[place])


def _weights(scores: Row, temperature: float, out: Row) -> Row:
    """Proportional to the probabilities, the largest 1."""
    with np.errstate(over="ignore"):  # far below the largest, a score over a small temperature is -inf: weight 0
        np.subtract(scores, scores.max(), out=out)
        np.divide(out, np.float32(temperature), out=out)
        return np.exp(out, out=out)


def _least(row: DrawRow, whole: float, count: int) -> np.float32:
    """Tokens of less weight are never chosen: by min-p (arXiv 2407.01082), or since all of them together are less than
    the nucleus leaves out."""
    left_out = (1 - row.top_p) * whole * TAIL_SLACK / count
    return max(np.float32(row.min_p), np.float32(left_out))


def _place(line: "Line", top_p: float, whole: float, number: float) -> int:
    mass = line.total
    if top_p < 1:  # nucleus sampling, arXiv 1904.09751
        mass = line.find(top_p * whole, "left")[1]
    return line.find(min(number * mass, float(np.nextafter(mass, 0))), "right")[0]


class Line:
    """Weights [W] in [0, 1], the largest 1, as lengths along a line, the likeliest token first.

    Weights whose first bits are equal share a bucket; buckets are in order, and only the one asked for is sorted.
    """

    def __init__(self, scores: Row, weights: Row, desk: Desk) -> None:
        self._scores, self._weights = scores, weights
        self._buckets, wide = desk.buckets[: len(weights)], desk.wide[: len(weights)]
        np.right_shift(weights.view(np.int32), BUCKET_SHIFT, out=self._buckets)  # positive floats order as their bits
        np.subtract(LAST_BUCKET, self._buckets, out=self._buckets)
        wide[:] = weights
        self._ends = np.bincount(self._buckets, weights=wide).cumsum()
        self.total = float(self._ends[-1])

    def find(self, length: float, side: Literal["left", "right"]) -> tuple[int, float]:
        """The first token whose end is at least ("left") or beyond ("right") ``length``, and its end. Behind the line
        it is the last one that has any weight."""
        length = min(length, float(np.nextafter(self.total, 0)))
        bucket = int(np.searchsorted(self._ends, length, side))
        places = np.flatnonzero(self._buckets == bucket)
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


def logprobs(logits: Row, token: int, top: int, desk: Desk) -> DrawnRow:
    """Log-softmax of the logits: of ``token``, and of the ``top`` likeliest."""
    largest = logits.max()
    total = float(largest) + float(np.log(_weights(logits, 1.0, desk.weights[: len(logits)]).sum(dtype=np.float64)))
    ids = ranked(logits, top) if top else np.empty(0, dtype=np.int64)
    told = logits[ids].astype(np.float64) - total
    return DrawnRow(token, float(logits[token]) - total, tuple(ids.tolist()), tuple(told.tolist()))
