"""Numbers of JSON within bounds, as grammar nodes.

At most 15 significant digits, so that no reader's floating point can round a number onto the wrong side of a bound;
exponents only where there is no bound. Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from math import gcd

from shared.language.grammar.nodes import (
    EMPTY,
    NEVER,
    Divisible,
    Node,
    Text,
    alt,
    both,
    chars,
    lexeme,
    one_of,
    optional,
    rep,
    seq,
)

INTEGER_DIGITS = 18
SIGNIFICANT_DIGITS = 15
USUAL_DIGITS = 9
"""In front of the point, where a bound needs no more."""
MAX_LISTED = 256
MAX_DIVISOR = 10_000

_DIGIT = chars([(0x30, 0x39)])
_NOT_ZERO = chars([(0x31, 0x39)])


@dataclass(frozen=True)
class Bounds:
    """None: no bound. ``open_*``: the bound itself is excluded."""

    low: Decimal | None = None
    high: Decimal | None = None
    open_low: bool = False
    open_high: bool = False

    @property
    def are_missing(self) -> bool:
        return self.low is None and self.high is None

    def integers(self) -> tuple[int | None, int | None]:
        """The least and the greatest integer inside."""
        low = None if self.low is None else int(self.low.to_integral_value(ROUND_CEILING))
        high = None if self.high is None else int(self.high.to_integral_value(ROUND_FLOOR))
        if low is not None and self.open_low and low == self.low:
            low += 1
        if high is not None and self.open_high and high == self.high:
            high -= 1
        return low, high


def integer(bounds: Bounds, multiple_of: int | None = None) -> Node:
    low, high = bounds.integers()
    body = _integers(low, high)
    if multiple_of is None or multiple_of == 1:
        return lexeme(body)
    if low is not None and high is not None and (high - low) // multiple_of <= MAX_LISTED:
        first = -(-low // multiple_of) * multiple_of
        return lexeme(alt(Text(str(value)) for value in range(first, high + 1, multiple_of)))
    return lexeme(both(body, Divisible(multiple_of)))


def common_multiple(left: int, right: int) -> int:
    return left * right // gcd(left, right)


def number(bounds: Bounds) -> Node:
    if bounds.are_missing:
        whole = alt([Text("0"), seq(_NOT_ZERO, rep(_DIGIT, 0, SIGNIFICANT_DIGITS - 1))])
        fraction = optional(seq(Text("."), rep(_DIGIT, 1, SIGNIFICANT_DIGITS)))
        exponent = optional(seq(one_of("eE"), optional(one_of("+-")), rep(_DIGIT, 1, 2)))
        return lexeme(seq(optional(Text("-")), whole, fraction, exponent))
    zero = Decimal(0)
    low, high = bounds.low, bounds.high
    ways = []
    if high is None or high > 0 or (high == 0 and not bounds.open_high):
        above = (low, bounds.open_low) if low is not None and low >= 0 else (zero, False)
        ways.append(_magnitude(*above, high, bounds.open_high))
    if low is None or low < 0:
        above = (-high, bounds.open_high) if high is not None and high < 0 else (zero, True)
        below = None if low is None else -low
        ways.append(seq(Text("-"), _magnitude(*above, below, bounds.open_low)))
    return lexeme(alt(ways))


def _integers(low: int | None, high: int | None) -> Node:
    most = 10**INTEGER_DIGITS - 1
    top = most if high is None else high
    bottom = -most if low is None else low
    positive = alt(_digits_between(max(bottom, 0), top)) if top >= 0 else NEVER
    negative = alt(_digits_between(max(-top, 1), -bottom)) if bottom < 0 else NEVER
    return alt([positive, seq(Text("-"), negative)])


def _digits_between(low: int, high: int) -> Iterator[Node]:
    """Natural numbers: those with fewest digits, those with most, and between them every count of digits at once."""
    shortest, longest = len(str(low)), len(str(high))
    if low > high:
        return
    if shortest == longest:
        yield _between(str(low), str(high))
        return
    yield _between(str(low), "9" * shortest)
    if longest - shortest > 1:
        yield seq(_NOT_ZERO, rep(_DIGIT, shortest, longest - 2))
    yield _between(str(10 ** (longest - 1)), str(high))


def _between(low: str, high: str) -> Node:
    """As many digits as both have; a leading digit that leaves the rest free needs no case of its own."""
    if not low:
        return EMPTY
    rest = len(low) - 1
    if low[0] == high[0]:
        return seq(Text(low[0]), _between(low[1:], high[1:]))
    first, last = int(low[0]), int(high[0])
    ways = []
    if low[1:].strip("0"):
        ways.append(seq(Text(low[0]), _between(low[1:], "9" * rest)))
        first += 1
    if high[1:].strip("9"):
        ways.append(seq(Text(high[0]), _between("0" * rest, high[1:])))
        last -= 1
    return alt([seq(_digits(first, last), rep(_DIGIT, rest, rest)), *ways])


def _digits(low: int, high: int) -> Node:
    return chars([(0x30 + low, 0x30 + high)]) if low <= high else NEVER


def _magnitude(low: Decimal, open_low: bool, high: Decimal | None, open_high: bool) -> Node:
    """A number without sign of at least ``low`` (≥ 0) and at most ``high``."""
    (low_whole, low_part), (high_whole, high_part) = _split(low), _split(high or Decimal(0))
    whole_digits = max(len(low_whole), len(high_whole), USUAL_DIGITS if high is None else 1)
    places = max(SIGNIFICANT_DIGITS - whole_digits, len(low_part), len(high_part), 1)
    lower = _at_least(low_whole, low_part, open_low, whole_digits, places)
    if high is None:
        return lower
    return both(lower, _at_most(high_whole, high_part, open_high, places))


def _split(value: Decimal) -> tuple[str, str]:
    """Digits before and after the point, without zeros at the ends."""
    whole, _, part = format(value, "f").partition(".")
    return whole.lstrip("0") or "0", part.rstrip("0")


def _at_least(whole: str, part: str, is_open: bool, whole_digits: int, places: int) -> Node:
    free = optional(seq(Text("."), rep(_DIGIT, 1, places)))
    above = alt(_digits_between(int(whole) + 1, 10**whole_digits - 1))
    if part:
        equal = seq(Text("."), _part_at_least(part, is_open, places))
    else:
        equal = seq(Text("."), _above_zero(places)) if is_open else free
    return alt([seq(above, free), seq(Text(whole), equal)])


def _part_at_least(part: str, is_open: bool, places: int) -> Node:
    if not part:
        return _above_zero(places) if is_open else rep(_DIGIT, 0, places)
    digit = int(part[0])
    return alt(
        [
            seq(_digits(digit + 1, 9), rep(_DIGIT, 0, places - 1)),
            seq(Text(part[0]), _part_at_least(part[1:], is_open, places - 1)),
        ]
    )


def _above_zero(places: int) -> Node:
    """Up to so many digits, not all of them 0."""
    if places < 1:
        return NEVER
    return both(
        rep(_DIGIT, 1, places),
        seq(rep(Text("0"), 0, None), _NOT_ZERO, rep(_DIGIT, 0, None)),
    )


def _at_most(whole: str, part: str, is_open: bool, places: int) -> Node:
    free = optional(seq(Text("."), rep(_DIGIT, 1, places)))
    below = alt(_digits_between(0, int(whole) - 1)) if whole != "0" else NEVER
    if part:
        equal = optional(seq(Text("."), _part_at_most(part, is_open, places)))
    else:
        equal = NEVER if is_open else optional(seq(Text("."), rep(Text("0"), 1, places)))
    return alt([seq(below, free), seq(Text(whole), equal)])


def _part_at_most(part: str, is_open: bool, places: int) -> Node:
    """At least one digit."""
    digit = int(part[0])
    less = seq(_digits(0, digit - 1), rep(_DIGIT, 0, places - 1))
    if len(part) > 1:
        same = seq(Text(part[0]), optional(_part_at_most(part[1:], is_open, places - 1)))
    else:
        same = NEVER if is_open else seq(Text(part[0]), rep(Text("0"), 0, places - 1))
    return alt([less, same])
