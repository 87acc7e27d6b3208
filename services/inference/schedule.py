"""``schedule``: who runs, and what the next forward computes. Pure: plain state and the time in, slices out.

Interactive sequences come before batch ones; inside a class the owner who is farthest behind comes first
(``fairness``). Every running sequence whose next token is due gets its row in every forward; beside them prompts are
computed in slices, together at most ``slice_tokens`` rows. Where the slices are cut does not change a bit of any
answer.

Bounds, by construction: a batch class that got no row for ``batch_patience_seconds`` has its next sequence promoted to
interactive and guarded, so it is never starved; a sequence that does not fit is passed by at most ``MAX_BYPASS`` others
before everybody behind it waits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from services.inference.cache import PageCache, empty
from services.inference.fairness import FairShare, Lines
from services.inference.preemption import victims
from services.inference.sequence import Sequence
from services.inference.shelf import Shelf

MAX_BYPASS = 64


@dataclass(frozen=True)
class Limits:
    slots: int = 32
    """Sequences that run at once."""
    slice_tokens: int = 256
    """Rows of prompts in one forward."""
    batch_patience_seconds: float = 10.0


@dataclass(frozen=True)
class Work:
    """The next ``rows`` positions of a sequence. ``samples``: the last of them chooses its next token."""

    sequence: Sequence
    first: int
    rows: int
    samples: bool


@dataclass
class State:
    """Everything that ``schedule`` decides from."""

    cache: PageCache
    shelf: Shelf
    limits: Limits = Limits()
    share: FairShare = field(default_factory=FairShare)
    interactive: Lines = field(default_factory=Lines)
    batch: Lines = field(default_factory=Lines)
    running: list[Sequence] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    """Sequences that the shard may forget."""
    turns: int = 0
    preempted: int = 0
    """Preemptions so far."""
    batch_rows_at: float | None = None
    """When a batch sequence last got a row, or the first of them came; None while there is none."""

    @property
    def waiting(self) -> int:
        return len(self.interactive) + len(self.batch)

    def line(self, sequence: Sequence) -> Lines:
        return self.batch if sequence.later else self.interactive


def submit(state: State, sequence: Sequence) -> None:
    """A new sequence waits."""
    state.share.enter(sequence.owner)
    state.line(sequence).push(sequence)


def withdraw(state: State, sequence: Sequence, now: float) -> None:
    """The end of a sequence, wherever it is; its memory is free at once."""
    if sequence in state.running:
        _stop(state, sequence, now, sequence.pause_seconds)
    else:
        state.line(sequence).remove(sequence)
    state.share.leave(sequence.owner)


def advance(state: State, work: Work, now: float) -> None:
    """The rows of ``work`` are computed."""
    sequence = work.sequence
    sequence.computed += work.rows
    sequence.rows_run += work.rows
    state.share.charge(sequence.owner, work.rows)
    if sequence.batch:
        state.batch_rows_at = now
    state.cache.publish(sequence)


def forget(state: State) -> None:
    """The shard lost what it held: everything that ran waits again, in its old order, and is computed anew."""
    for sequence in sorted(state.running, key=seniority, reverse=True):
        empty(sequence)
        state.line(sequence).push(sequence, first=True)
    state.running.clear()
    state.closed.clear()
    state.cache.clear()
    state.shelf.clear()


def schedule(state: State, now: float) -> list[Work]:
    """Admit, preempt, and cut the next forward; empty when there is nothing to compute."""
    _promote(state, now)
    _admit(state, now)
    _grow(state, now)
    return _next_tokens(state) + _slices(state)


def _promote(state: State, now: float) -> None:
    """Patience is over: the batch sequence whose turn it is counts as interactive."""
    later = [sequence for sequence in state.running if sequence.later]
    if not later and not len(state.batch):
        state.batch_rows_at = None
        return
    if state.batch_rows_at is None:
        state.batch_rows_at = now
    if now - state.batch_rows_at < state.limits.batch_patience_seconds:
        return
    state.batch_rows_at = now
    sequence = min(later, key=seniority) if later else state.batch.head(state.share)
    assert sequence is not None
    if not later:
        state.batch.remove(sequence)
    sequence.promoted = True
    sequence.guard()
    if not later:
        state.interactive.push(sequence, first=True)


def _admit(state: State, now: float) -> None:
    for line in (state.interactive, state.batch):
        passed: list[Sequence] = []
        while (head := line.head(state.share, {sequence.owner for sequence in passed})) is not None:
            if _make_room(state, head, now):
                _start(state, head, now)
                for sequence in passed:
                    sequence.bypassed += 1
            else:
                passed.append(head)
            if any(sequence.bypassed >= MAX_BYPASS for sequence in passed):
                return


def _make_room(state: State, head: Sequence, now: float) -> bool:
    """Whether ``head`` fits now, where necessary in place of others."""
    full = len(state.running) >= state.limits.slots
    spare = sum(sequence.left == 1 for sequence in state.running)  # each may need its next page soon
    shortage = state.cache.needed(head) + spare - state.cache.available
    chosen = victims(state, head, full=full, shortage=shortage)
    for victim in chosen or ():
        preempt(state, victim, now)
    return chosen is not None


def _start(state: State, sequence: Sequence, now: float) -> None:
    state.line(sequence).remove(sequence)
    found = state.cache.open(sequence)
    assert state.cache.grow(sequence, len(sequence.tokens), now), "room was made"
    state.turns += 1
    sequence.turn, sequence.rows_run = state.turns, 0
    if not sequence.preemptions:
        sequence.cached_tokens = min(found, sequence.prompt)
    if sequence.bypassed >= MAX_BYPASS:
        sequence.guard()
    sequence.bypassed = 0
    state.running.append(sequence)


def preempt(state: State, sequence: Sequence, now: float) -> None:
    """Back to the head of its line. Its tokens are kept, its pages stay cached until others need them."""
    sequence.preemptions += 1
    state.preempted += 1
    _stop(state, sequence, now, 0.0)
    state.line(sequence).push(sequence, first=True)


def _stop(state: State, sequence: Sequence, now: float, pause_seconds: float) -> None:
    state.running.remove(sequence)
    if sequence.opened:
        state.closed.append(sequence.number)
    state.cache.close(sequence, now, pause_seconds)


def _grow(state: State, now: float) -> None:
    """A page for the next row of everybody; where there is none, the most junior one waits. The most senior one always
    goes on, since a sequence that cannot fit alone is never admitted."""
    for sequence in sorted(state.running, key=seniority):
        while sequence in state.running and not state.cache.grow(sequence, len(sequence.tokens), now):
            preempt(state, max(state.running, key=seniority), now)


def seniority(sequence: Sequence) -> tuple[bool, bool, int]:
    """The smaller, the longer it stays when memory is short."""
    return sequence.later, not sequence.guarded, sequence.turn


def _next_tokens(state: State) -> list[Work]:
    due = [s for s in state.running if s.left == 1 and state.shelf.reach(s) > s.computed]
    return [Work(sequence, sequence.computed, 1, samples=True) for sequence in due]


def _slices(state: State) -> list[Work]:
    """Prompts in slices: interactive ones first, then who is farthest behind, counting what this forward gives."""
    budget, given = state.limits.slice_tokens, dict[str, float]()
    works: list[Work] = []
    pending = [sequence for sequence in state.running if sequence.left > 1]
    order = _turn_order(state.share, given)
    while pending and budget:
        sequence = min(pending, key=order)
        pending.remove(sequence)
        skipped = state.cache.skip(sequence)
        if not sequence.preemptions:
            sequence.cached_tokens = min(sequence.cached_tokens + skipped, sequence.prompt)
        rows = min(budget, state.shelf.reach(sequence) - sequence.computed)
        if rows > 0:
            works.append(Work(sequence, sequence.computed, rows, samples=rows == sequence.left))
            budget -= rows
            given[sequence.owner] = given.get(sequence.owner, 0.0) + rows / state.share.weight(sequence.owner)
    return works


def _turn_order(share: FairShare, given: dict[str, float]) -> Callable[[Sequence], tuple[bool, float, int]]:
    def order(sequence: Sequence) -> tuple[bool, float, int]:
        return sequence.later, share.time(sequence.owner) + given.get(sequence.owner, 0.0), sequence.turn

    return order
