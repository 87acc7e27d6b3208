"""The rules of the next token, per sequence; the draw itself is an operation of the kernels, row by row. Pure.

Order: repetition penalty, presence and frequency penalty, bias, forbidden ids and mask, temperature, then of the tokens
from likeliest to least (the lower id first on a tie) the first ``top_k``, of those the fewest that reach ``top_p``, of
those the ones with at least ``min_p`` of the likeliest's probability. A draw depends on (seed, position) only.
"""

import numpy as np

from kernels.draws import DEAD_END, NO_IDS, NO_NUMBERS, Changes, DrawnRow, DrawRow, Ids, Row
from kernels.reference.draws import bits
from schemas.generation import Logprobs
from schemas.shards import Draw, SequenceOpened, TokenDrawn
from shared.errors import BadInput

KEY_BITS = 2**64
ROOM = 64
COLDEST = 1e-6
"""Up to this temperature the likeliest token is taken."""
VERSION = "2"
"""Part of every numerics class: raised whenever a token or a logprob may differ in a bit from before."""


class Counts:
    """Tokens of an answer so far, and how often each. The arrays are views of larger ones, so that a new token copies
    them seldom."""

    def __init__(self, ids: Ids) -> None:
        held, counts = np.unique(ids, return_counts=True)
        self._places = {token: place for place, token in enumerate(held.tolist())}
        self._ids, self._counts = held.astype(np.int32), counts.astype(np.float32)
        self._show()

    def add(self, token: int) -> None:
        place = self._places.get(token)
        if place is None:
            place = self._places[token] = len(self._places)
            if place == len(self._ids):
                room = max(place, ROOM)
                self._ids = np.append(self._ids, np.zeros(room, dtype=np.int32))
                self._counts = np.append(self._counts, np.zeros(room, dtype=np.float32))
            self._ids[place] = token
            self._show()
        self._counts[place] += 1

    def _show(self) -> None:
        self.ids: Ids = self._ids[: len(self._places)]
        self.counts: Row = self._counts[: len(self._places)]


class Sampler:
    """The rules of one sequence. ``row`` changes nothing in it; ``keep`` counts what became part of the answer."""

    def __init__(self, opened: SequenceOpened, vocabulary: int) -> None:
        self._sequence, self._rule = opened.sequence, opened.rule
        rule = opened.rule
        self._numbers = Numbers(rule.seed)
        self._forbidden = NO_IDS
        if rule.forbidden:
            self._forbidden = np.flatnonzero(bits(rule.forbidden, vocabulary)).astype(np.int32)
        self._biased = np.array([token for token, _ in rule.logit_bias], dtype=np.int32)
        self._biases = np.array([bias for _, bias in rule.logit_bias], dtype=np.float32)
        counted, repeated = rule.presence_penalty or rule.frequency_penalty, rule.repetition_penalty != 1.0
        emitted = _ids(opened.emitted)
        self._counts = Counts(emitted) if counted else None
        self._seen = Counts(np.concatenate((_ids(opened.context), emitted))) if repeated else None

    def row(self, logits: Row, draw: Draw) -> DrawRow:
        """What the next token is drawn from: logits [W]."""
        rule = self._rule
        cold = rule.temperature <= COLDEST
        return DrawRow(
            logits=logits,
            changes=self._changes(draw.mask),
            number=0.0 if cold else self._numbers.at(draw.position),
            temperature=0.0 if cold else rule.temperature,
            top_k=rule.top_k,
            top_p=rule.top_p,
            min_p=rule.min_p,
            forced=draw.forced,
            top_logprobs=rule.top_logprobs,
        )

    def token(self, drawn: DrawnRow, draw: Draw) -> TokenDrawn:
        """Raises BadInput when no token was allowed."""
        if drawn.token == DEAD_END:
            param = "grammar" if draw.mask else "forbidden_ids"
            raise BadInput("generation.dead_end", "no token is allowed here", param=param)
        logprobs = None
        if self._rule.top_logprobs is not None:
            logprobs = Logprobs(chosen=drawn.logprob, top_ids=drawn.top_ids, top=drawn.top)
        return TokenDrawn(sequence=self._sequence, token=drawn.token, logprobs=logprobs)

    def keep(self, token: int) -> None:
        for counts in (self._counts, self._seen):
            if counts is not None:
                counts.add(token)

    def _changes(self, mask: bytes) -> Changes:
        rule, seen, counts = self._rule, self._seen, self._counts
        return Changes(
            repetition=rule.repetition_penalty,
            seen=NO_IDS if seen is None else seen.ids,
            presence=rule.presence_penalty,
            frequency=rule.frequency_penalty,
            counted=NO_IDS if counts is None else counts.ids,
            counts=NO_NUMBERS if counts is None else counts.counts,
            biased=self._biased,
            biases=self._biases,
            forbidden=self._forbidden,
            mask=mask,
        )


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) from Philox4x64 (Salmon et al., SC 2011) with the seed as key and the position as counter."""
    return float(np.random.Generator(_philox(seed, position)).random())


class Numbers:
    """``uniform`` of one seed: positions that follow each other share a generator, which is faster than making one."""

    def __init__(self, seed: int) -> None:
        self._seed, self._philox, self._next = seed, _philox(seed, 0), 0

    def at(self, position: int) -> float:
        if position != self._next:
            self._philox = _philox(self._seed, position)
        bits = int(self._philox.random_raw())
        self._philox.advance(KEY_BITS - 1)  # the draw took one step of the counter, whose second word is the position
        self._next = position + 1
        return (bits >> 11) * 2.0**-53  # as numpy makes a double of 64 bits


def _philox(seed: int, position: int) -> np.random.Philox:
    key = np.array([seed % KEY_BITS, 0], dtype=np.uint64)  # arrays: in a list large integers would become floats
    return np.random.Philox(key=key, counter=np.array([0, position, 0, 0], dtype=np.uint64))


def _ids(data: bytes) -> Ids:
    return np.frombuffer(data, dtype="<u4").astype(np.int32)
