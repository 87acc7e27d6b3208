"""Where layers and experts go: contiguous ranges of layers over equal devices, experts into the room that is left.

Input: bytes per layer, bytes that each device holds anyway, bytes of one expert. Output: ``Placement``. It must not
know models or devices.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Placement:
    bounds: tuple[int, ...]
    """[count + 1]: device i holds layers bounds[i] to bounds[i + 1] - 1."""
    experts: tuple[int, ...]
    """[count]: how many experts of each layer a device holds."""


@dataclass(frozen=True)
class Task:
    """``layers`` [L] bytes each; ``fixed`` [count] bytes that device i holds whatever layers it gets; ``expert`` bytes
    of one expert over all layers, ``expert_count`` of them; ``capacity`` bytes of one device."""

    layers: Sequence[int]
    fixed: Sequence[int]
    expert: int
    expert_count: int
    capacity: int


def place(task: Task) -> Placement | None:
    """All experts on the devices, the fullest device as empty as possible where that is enough; None if no way fits.

    Exact: when contiguous ranges exist whose rooms hold all experts, one is found. So a larger capacity, fewer bytes or
    one more device never turn a fit into None.
    """
    bounds = balanced(task.layers, task.fixed)
    loads = spread(_loads(task, bounds), task.expert, task.expert_count)
    if max(loads.filled) <= task.capacity:
        return Placement(bounds, loads.counts)
    found = roomiest(task)
    if found is None or sum(rooms := _rooms(task, found)) < task.expert_count:
        return None
    return Placement(found, _fill(rooms, task.expert_count))


def overflowing(task: Task, spare: int | None = None) -> Placement:
    """As many experts on the devices as fit, when not all do; the others live elsewhere. Layers may overflow.

    ``spare``: how many experts there is room for elsewhere. Balanced ranges if these few are enough (or None, any
    number), else those that leave the most room.
    """
    bounds = balanced(task.layers, task.fixed)
    rooms, missing = _rooms(task, bounds), max(_loads(task, bounds)) - task.capacity
    if missing > 0 or (spare is not None and task.expert_count - sum(rooms) > spare):
        bounds = roomiest(task) or bounds
        rooms = _rooms(task, bounds)
    return Placement(bounds, _fill(rooms, min(sum(rooms), task.expert_count)))


def overloaded(task: Task) -> Placement:
    """All experts on the devices, though they do not fit."""
    bounds = balanced(task.layers, task.fixed)
    return Placement(bounds, spread(_loads(task, bounds), task.expert, task.expert_count).counts)


@dataclass(frozen=True)
class Spread:
    counts: tuple[int, ...]
    filled: tuple[int, ...]


def spread(loads: Sequence[int], unit: int, count: int) -> Spread:
    """``count`` equal units, each to the least loaded device: no other way has a smaller fullest device."""
    counts = [0] * len(loads)
    queue = [(load, 0, index) for index, load in enumerate(loads)]
    heapq.heapify(queue)
    for _ in range(count):
        load, held, index = queue[0]
        counts[index] += 1
        heapq.heapreplace(queue, (load + unit, held + 1, index))
    return Spread(tuple(counts), tuple(load + unit * n for load, n in zip(loads, counts, strict=True)))


def balanced(layers: Sequence[int], fixed: Sequence[int]) -> tuple[int, ...]:
    """Bounds of contiguous ranges whose fullest device is as empty as possible (bisection over its load)."""
    low, high = max(fixed), max(fixed) + sum(layers)
    while low < high:
        middle = (low + high) // 2
        if _cut(layers, fixed, middle)[-1] == len(layers):
            high = middle
        else:
            low = middle + 1
    return _cut(layers, fixed, low)


def _cut(layers: Sequence[int], fixed: Sequence[int], most: int) -> tuple[int, ...]:
    """Give each device layers as long as its load stays within ``most``."""
    bounds = [0]
    for load in fixed:
        end = bounds[-1]
        while end < len(layers) and load + layers[end] <= most:
            load, end = load + layers[end], end + 1
        bounds.append(end)
    return tuple(bounds)


def roomiest(task: Task) -> tuple[int, ...] | None:
    """Bounds that leave room for the most experts (dynamic programme over devices and layers); None where even the
    layers do not fit."""
    sums = (0, *accumulate(task.layers))
    best: list[int | None] = [0, *[None] * len(task.layers)]  # [L + 1]: most experts with the first j layers placed
    choices: list[list[int]] = []
    for load in task.fixed:
        best, choice = _one_more_device(task, sums, load, best)
        choices.append(choice)
    if best[-1] is None:
        return None
    bounds = [len(task.layers)]
    for choice in reversed(choices):
        bounds.append(choice[bounds[-1]])
    return tuple(reversed(bounds))


def _one_more_device(
    task: Task, sums: Sequence[int], load: int, best: Sequence[int | None]
) -> tuple[list[int | None], list[int]]:
    found: list[int | None] = [None] * len(best)
    choice = [0] * len(best)
    for end in range(len(best)):
        for start in range(end, -1, -1):
            free = task.capacity - load - sums[end] + sums[start]
            if free < 0:
                break
            before = best[start]
            if before is None:
                continue
            total = before + _units(free, task)
            if (known := found[end]) is None or total > known:
                found[end], choice[end] = total, start
    return found, choice


def _units(free: int, task: Task) -> int:
    return min(max(free, 0) // task.expert, task.expert_count) if task.expert else task.expert_count


def _loads(task: Task, bounds: Sequence[int]) -> list[int]:
    held = zip(task.fixed, bounds, bounds[1:], strict=False)
    return [load + sum(task.layers[start:end]) for load, start, end in held]


def _rooms(task: Task, bounds: Sequence[int]) -> list[int]:
    return [_units(task.capacity - load, task) for load in _loads(task, bounds)]


def _fill(rooms: Sequence[int], count: int) -> tuple[int, ...]:
    """``count`` experts into ``rooms``, which hold at least so many, as evenly as they allow."""
    counts = [0] * len(rooms)
    for _ in range(count):
        index = min((i for i, room in enumerate(rooms) if counts[i] < room), key=counts.__getitem__)
        counts[index] += 1
    return tuple(counts)
