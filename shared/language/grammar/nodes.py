"""The pieces of a grammar over characters, and how they are put together. Nothing can be compared but by identity.

``Lexeme`` marks a piece without rules that a lexer may take whole: JSON's own tokens, so that the longest match is
always the right one.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Text:
    """Exactly these characters."""

    data: str


@dataclass(frozen=True, eq=False)
class Chars:
    """One character out of inclusive ranges of code points, sorted and apart."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Seq:
    parts: tuple["Node", ...]


@dataclass(frozen=True, eq=False)
class Alt:
    options: tuple["Node", ...]


@dataclass(frozen=True, eq=False)
class Rep:
    """``least`` to ``most`` times; None: without end."""

    body: "Node"
    least: int
    most: int | None


@dataclass(frozen=True, eq=False)
class Both:
    """What both accept. Neither may contain a rule."""

    left: "Node"
    right: "Node"


@dataclass(frozen=True, eq=False)
class Divisible:
    """Digits, after minus signs, whose number is a multiple."""

    by: int


@dataclass(frozen=True, eq=False)
class Lexeme:
    body: "Node"


@dataclass(frozen=True, eq=False)
class Rule:
    name: str


Node = Text | Chars | Seq | Alt | Rep | Both | Divisible | Lexeme | Rule

EMPTY = Seq(())
NEVER = Alt(())


@dataclass(frozen=True)
class Grammar:
    start: Node
    rules: dict[str, Node] = field(default_factory=dict)


def seq(*parts: Node) -> Node:
    if any(part is NEVER for part in parts):
        return NEVER
    kept = tuple(part for part in parts if part is not EMPTY)
    return kept[0] if len(kept) == 1 else Seq(kept) if kept else EMPTY


def alt(options: Iterable[Node]) -> Node:
    kept = tuple(option for option in options if option is not NEVER)
    return kept[0] if len(kept) == 1 else Alt(kept) if kept else NEVER


def rep(body: Node, least: int, most: int | None) -> Node:
    if most is not None and most < least:
        return NEVER
    if body is NEVER:
        return NEVER if least else EMPTY
    if body is EMPTY or most == 0:
        return EMPTY
    return body if (least, most) == (1, 1) else Rep(body, least, most)


def optional(body: Node) -> Node:
    return rep(body, 0, 1)


def both(left: Node, right: Node) -> Node:
    return NEVER if NEVER in (left, right) else Both(left, right)


def lexeme(body: Node) -> Node:
    return NEVER if body is NEVER else Lexeme(body)


def chars(ranges: Iterable[tuple[int, int]]) -> Node:
    kept = _united(ranges)
    return Chars(kept) if kept else NEVER


def one_of(characters: str) -> Node:
    return chars((ord(character), ord(character)) for character in characters)


def complement(ranges: Iterable[tuple[int, int]], low: int = 0, high: int = 0x10FFFF) -> tuple[tuple[int, int], ...]:
    """What lies between ``low`` and ``high`` and in none of the ranges."""
    gaps, start = [], low
    for first, last in _united(ranges):
        if first > start:
            gaps.append((start, min(first - 1, high)))
        start = max(start, last + 1)
    return (*((first, last) for first, last in gaps if first <= last), *(((start, high),) if start <= high else ()))


def intersection(left: Iterable[tuple[int, int]], right: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return complement((*complement(left), *complement(right)))


def _united(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    united: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if united and first <= united[-1][1] + 1:
            united[-1] = (united[-1][0], max(last, united[-1][1]))
        else:
            united.append((first, last))
    return tuple(united)
