"""From scheduled work to the message that a shard computes: what it does not know yet, and nothing twice. Pure."""

from array import array
from collections.abc import Iterable
from typing import Protocol

import msgspec
import numpy as np

from schemas.shards import Draw, Forward, MediaPlace, SequenceOpened, Slice, TokenDrawn
from services.inference.generation import Generation
from services.inference.mask import allowed
from services.inference.schedule import State, Work
from services.inference.sequence import Sequence

UNKNOWN_LOGPROB = -9999.0
"""Of a token that the grammar chose instead of the drawn one: OpenAI's figure for what is hardly possible."""


class Generations(Protocol):
    """Those in the engine, by number of their sequence."""

    def __getitem__(self, number: int, /) -> Generation: ...


class ForwardWriter:
    """Numbers forwards, and keeps sequences' notes of what the shard knows."""

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._number = 0

    def write(self, works: Iterable[Work], generations: Generations, state: State) -> Forward:
        """Everything in ``works`` and what must precede it."""
        self._number += 1
        works = list(works)
        opened = [work.sequence for work in works if not work.sequence.opened]
        closed, state.closed = tuple(state.closed), []
        forward = Forward(
            number=self._number,
            closed=closed,
            dropped=state.shelf.take_dropped(),
            opened=tuple(opening(generations[sequence.number]) for sequence in opened),
            slices=tuple(self._slice(work, generations[work.sequence.number], state) for work in works),
        )
        for sequence in opened:
            sequence.opened = True
        return forward

    def _slice(self, work: Work, generation: Generation, state: State) -> Slice:
        sequence, end = work.sequence, work.first + work.rows
        known, sequence.changed_from = sequence.changed_from, len(sequence.table)
        return Slice(
            sequence=sequence.number,
            first=work.first,
            ids=array("I", sequence.tokens[work.first : end]).tobytes(),
            pages_from=known,
            pages=tuple(sequence.table[known:]),
            media=places(sequence, work.first, end, state),
            draw=self._draw(generation) if work.samples else None,
        )

    def _draw(self, generation: Generation) -> Draw:
        mask = b"" if generation.mask is None else allowed(generation.mask, self._vocabulary)
        return Draw(position=len(generation.emitted), forced=generation.forced(), mask=mask)


def places(sequence: Sequence, first: int, end: int, state: State) -> tuple[MediaPlace, ...]:
    found = []
    for medium in sequence.media_from(first):
        if medium.position >= end:
            break
        state.shelf.used(medium.key)
        found.append(MediaPlace(position=medium.position, key=medium.key))
    return tuple(found)


def opening(generation: Generation) -> SequenceOpened:
    """What the shard must know of a sequence that begins, or begins again, to run."""
    rule, sequence = generation.rule, generation.sequence
    counted = rule.presence_penalty or rule.frequency_penalty or rule.repetition_penalty != 1.0
    context = rule.repetition_penalty != 1.0
    prompt = np.unique(np.array(sequence.tokens[: sequence.prompt], dtype="<u4")) if context else None
    return SequenceOpened(
        sequence=sequence.number,
        rule=rule,
        context=b"" if prompt is None else prompt.tobytes(),
        emitted=array("I", generation.emitted).tobytes() if counted else b"",
    )


def settled(generation: Generation, drawn: TokenDrawn) -> TokenDrawn:
    """What the drawn token becomes under the answer's grammar. A shard, which counts what it drew, is told anew."""
    token = drawn.token if generation.mask is None else generation.mask.settle(drawn.token)
    if token == drawn.token:
        return drawn
    generation.sequence.opened, generation.sequence.changed_from = False, 0
    known = drawn.logprobs
    logprobs = None if known is None else msgspec.structs.replace(known, chosen=UNKNOWN_LOGPROB)
    return msgspec.structs.replace(drawn, token=token, logprobs=logprobs)
