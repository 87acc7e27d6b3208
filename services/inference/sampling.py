"""The next token: pure arithmetic over one row of logits, independent of everything else in a forward batch.

Order: repetition penalty, presence and frequency penalty, bias, forbidden ids and mask, temperature, then of the tokens
from likeliest to least (the lower id first on a tie) the first ``top_k``, of those the fewest that reach ``top_p``, of
those the ones with at least ``min_p`` of the likeliest's probability. A draw depends on (seed, position) only.
"""

import numpy as np
from numpy.typing import NDArray

from schemas.generation import Logprobs
from schemas.shards import Draw, SequenceOpened, TokenDrawn
from services.inference.choice import Desk, Row, choose, ranked
from shared.errors import BadInput

KEY_BITS = 2**64
COLDEST = 1e-6
"""Up to this temperature the likeliest token is taken."""
VERSION = "2"
"""Part of every numerics class: raised whenever a token or a logprob may differ in a bit from before."""


class Sampler:
    """Chooses the tokens of one sequence. ``draw`` changes nothing; ``keep`` counts what became part of the answer."""

    def __init__(self, opened: SequenceOpened, desk: Desk) -> None:
        rule = opened.rule
        self._sequence, self._rule, self._desk = opened.sequence, rule, desk
        self._vocabulary = vocabulary = len(desk.scores)
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
            sequence=self._sequence,
            token=token,
            logprobs=None if top is None else logprobs(logits, token, top, self._desk),
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
        return choose(scores, self._rule, uniform(self._rule.seed, draw.position), self._desk)

    def _scores(self, logits: Row, mask: bytes) -> Row:
        rule = self._rule
        changed = self._forbidden is not None or self._counts is not None or self._seen is not None
        if not (changed or len(self._bias_ids) or mask):
            return logits
        scores = self._desk.scores
        scores[:] = logits
        if self._seen is not None:
            penalty, ids = np.float32(rule.repetition_penalty), np.flatnonzero(self._seen)
            seen = scores[ids]
            scores[ids] = np.where(seen > 0, seen / penalty, seen * penalty)
        if self._counts is not None:
            ids = np.flatnonzero(self._counts)
            once = scores[ids] - np.float32(rule.presence_penalty)
            scores[ids] = once - np.float32(rule.frequency_penalty) * self._counts[ids].astype(np.float32)
        if len(self._bias_ids):
            np.add.at(scores, self._bias_ids, self._biases)
        if self._forbidden is not None:
            scores[self._forbidden] = -np.inf
        if mask:
            np.copyto(scores, -np.inf, where=~bits(mask, self._vocabulary))
        if scores.max() == -np.inf:
            raise BadInput(
                "generation.dead_end", "no token is allowed here", param="grammar" if mask else "forbidden_ids"
            )
        return scores


def logprobs(logits: Row, token: int, top: int, desk: Desk) -> Logprobs:
    """Log-softmax of the model's own logits, in float64: of ``token``, and of the ``top`` likeliest."""
    wide, powers = desk.wide, desk.powers
    wide[:] = logits
    largest = float(logits.max())
    np.subtract(wide, largest, out=powers)
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
