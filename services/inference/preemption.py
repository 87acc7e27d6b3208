"""Who makes room for a sequence that does not fit: batch for interactive, and who has more than a fair share. Pure.

An owner's share is the larger of its parts of slots and pages (dominant resource fairness, Ghodsi et al., NSDI 2011)
over its weight. A sequence moves only from an owner who is not behind in virtual time and has more than the newcomer
will have then: the move can never be turned back by the same rule, so nobody is preempted to and fro. An owner who runs
nothing at all also gets the place of a sequence that had its turn (``ROTATION_ROWS``) and whose owner is farther ahead.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from services.inference.sequence import Sequence

if TYPE_CHECKING:
    from services.inference.schedule import State

ROTATION_ROWS = 512


def victims(state: "State", head: Sequence, *, full: bool, shortage: int) -> list[Sequence] | None:
    """Running sequences to preempt so that a slot and ``shortage`` pages become available; None when that would be
    unfair, or not enough."""
    chosen: list[Sequence] = []
    while full or shortage > 0:
        rest = [sequence for sequence in state.running if sequence not in chosen and not sequence.guarded]
        victim = _victim(state, head, rest)
        if victim is None:
            return None
        chosen.append(victim)
        full = False
        shortage -= state.cache.gain(victim, head)
    return chosen


def _victim(state: "State", head: Sequence, rest: list[Sequence]) -> Sequence | None:
    later = [sequence for sequence in rest if sequence.later]
    if later and not head.later:
        return max(later, key=_turn)
    rest = [sequence for sequence in rest if sequence.later == head.later and sequence.owner != head.owner]
    return _above_share(state, head, rest) or _rotated(state, head, rest)


def _above_share(state: "State", head: Sequence, rest: list[Sequence]) -> Sequence | None:
    """The latest of the owner with the largest share, if the newcomer's owner stays below it."""
    time, share = state.share.time, _shares(state, rest)
    rest = [sequence for sequence in rest if time(sequence.owner) >= time(head.owner)]
    richest = max(rest, key=lambda sequence: (share(sequence.owner), sequence.turn), default=None)
    if richest is None or _with(state, head) >= share(richest.owner):
        return None
    return richest


def _rotated(state: "State", head: Sequence, rest: list[Sequence]) -> Sequence | None:
    if any(sequence.owner == head.owner for sequence in state.running):
        return None
    time = state.share.time
    ready = [s for s in rest if s.rows_run >= ROTATION_ROWS and time(s.owner) > time(head.owner)]
    return max(ready, key=lambda sequence: (time(sequence.owner), sequence.turn), default=None)


def _with(state: "State", head: Sequence) -> float:
    """Share of the newcomer's owner once it runs."""
    mine = [sequence for sequence in state.running if sequence.owner == head.owner]
    pages = sum(len(sequence.table) for sequence in mine) + state.cache.count(len(head.tokens))
    return _dominant(state, len(mine) + 1, pages, head.owner)


def _shares(state: "State", rest: list[Sequence]) -> Callable[[str], float]:
    slots: dict[str, int] = {}
    pages: dict[str, int] = {}
    for sequence in rest:
        slots[sequence.owner] = slots.get(sequence.owner, 0) + 1
        pages[sequence.owner] = pages.get(sequence.owner, 0) + len(sequence.table)
    shares = {owner: _dominant(state, count, pages[owner], owner) for owner, count in slots.items()}
    return shares.__getitem__


def _dominant(state: "State", slots: int, pages: int, owner: str) -> float:
    return max(slots / state.limits.slots, pages / state.cache.pages) / state.share.weight(owner)


def _turn(sequence: Sequence) -> int:
    return sequence.turn
