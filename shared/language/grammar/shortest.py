"""Shortest texts of things that take bytes one by one, where no structure tells them: by search.

Input: what may follow a thing, and where it may end. Output: of the shortest texts to an end, the least. Knows nothing
of grammars.
"""

from collections.abc import Callable, Iterable

Following = Callable[[int], Iterable[tuple[int, int]]]
"""The bytes that a thing takes, ascending, and what it is behind each."""
Ends = Callable[[int], bool]


class TooLarge(Exception):
    """More is reachable than may be looked at."""


def of_all_behind(start: int, following: Following, ends: Ends, limit: int) -> dict[int, bytes | None]:
    """Of ``start`` and of all that it can become; None where no end can be reached. Raises TooLarge."""
    steps: dict[int, list[tuple[int, int]]] = {}
    before: dict[int, list[int]] = {start: []}
    todo = [start]
    while todo:
        one = todo.pop()
        steps[one] = list(following(one))
        for _, behind in steps[one]:
            if behind not in before:
                before[behind] = []
                todo.append(behind)
            before[behind].append(one)
        if len(before) > limit:
            raise TooLarge
    return _backwards(steps, before, [one for one in steps if ends(one)])


def _backwards(
    steps: dict[int, list[tuple[int, int]]], before: dict[int, list[int]], level: list[int]
) -> dict[int, bytes | None]:
    """From the ends, one byte at a time."""
    texts: dict[int, bytes | None] = dict.fromkeys(level, b"")
    while level:
        length = len(texts[level[0]] or b"")
        level = list(dict.fromkeys(one for known in level for one in before[known] if one not in texts))
        for one in level:
            texts[one] = min(
                bytes((byte,)) + rest
                for byte, behind in steps[one]
                if (rest := texts.get(behind)) is not None and len(rest) == length
            )
    return {one: texts.get(one) for one in steps}


def of_one(start: int, following: Following, ends: Ends, limit: int) -> bytes | None:
    """Of ``start`` alone, looking no further than its nearest end. Raises TooLarge."""
    seen, level = {start}, [(start, b"")]
    while level:
        coming = []
        for one, text in level:
            if ends(one):
                return text
            for byte, behind in following(one):
                if behind not in seen:
                    seen.add(behind)
                    coming.append((behind, text + bytes((byte,))))
        if len(seen) > limit:
            raise TooLarge
        level = coming
    return None
