"""Regular expressions of JSON Schema (ECMA-262, what RFC 9485 calls interoperable, and a little more) to grammar nodes.

Input: a pattern. Output: the content of a JSON string that it finds a match in. Anchors are understood at the ends of
the outermost alternatives; look-around, back references and properties of Unicode are ``Unsupported``.
"""

from shared.language.grammar.characters import PRINTABLE, spelled
from shared.language.grammar.nodes import EMPTY, Node, alt, complement, intersection, rep, seq
from shared.language.grammar.unsupported import Unsupported

MAX_COUNT = 4096
MAX_DEPTH = 32

_DIGIT = ((0x30, 0x39),)
_WORD = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE = ((0x09, 0x0D), (0x20, 0x20))
_ASCII = ((0x20, 0x7E),)
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS = {"n": 0x0A, "r": 0x0D, "t": 0x09, "f": 0x0C, "v": 0x0B, "0": 0x00}
_DOT = complement([(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029), *complement(PRINTABLE)])
_QUANTIFIERS = {"*": (0, None), "+": (1, None), "?": (0, 1)}

Ranges = tuple[tuple[int, int], ...]


def content_of(pattern: str) -> Node:
    """Raises Unsupported for what is beyond this module or is no pattern at all."""
    parser = _Parser(pattern)
    node = alt(parser.outermost())
    if parser.position < len(pattern):
        raise Unsupported(f"unexpected {pattern[parser.position]!r} in a pattern")
    return node


class _Parser:
    """Recursive descent; ``position`` is the next character."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.position = 0
        self._depth = 0

    def outermost(self) -> list[Node]:
        anything = rep(spelled(PRINTABLE), 0, None)
        ways = []
        while True:
            starts = self._take("^")
            body = self._sequence()
            ends = self._take("$")
            ways.append(seq(EMPTY if starts else anything, body, EMPTY if ends else anything))
            if not self._take("|"):
                return ways

    def _alternatives(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unsupported("a pattern is nested too deeply")
        ways = [self._sequence()]
        while self._take("|"):
            ways.append(self._sequence())
        self._depth -= 1
        return alt(ways)

    def _sequence(self) -> Node:
        parts = []
        while self._peek() not in ("", "|", ")", "$"):
            parts.append(self._quantified(self._atom()))
        return seq(*parts)

    def _quantified(self, atom: Node) -> Node:
        least, most = self._counts()
        if (least, most) == (1, 1):
            return atom
        self._take("?")  # a lazy match accepts the same texts
        if least > MAX_COUNT or (most or 0) > MAX_COUNT:
            raise Unsupported(f"a pattern repeats something more than {MAX_COUNT} times")
        return rep(atom, least, most)

    def _counts(self) -> tuple[int, int | None]:
        if self._peek() in _QUANTIFIERS and self._peek():
            return _QUANTIFIERS[self._next()]
        end = self._pattern.find("}", self.position)
        if self._peek() != "{" or end < 0:
            return 1, 1
        low, comma, high = self._pattern[self.position + 1 : end].partition(",")
        if not low.isdecimal() or (high and not high.isdecimal()):
            raise Unsupported("a pattern has a malformed repetition")
        self.position = end + 1
        return int(low), (int(high) if high else None) if comma else int(low)

    def _atom(self) -> Node:
        character = self._next()
        if character == "(":
            return self._group()
        if character == "[":
            return spelled(self._class())
        if character == ".":
            return spelled(_DOT)
        if character == "\\":
            return spelled(self._escape())
        if character in "^$*+?)":
            raise Unsupported(f"{character!r} stands in an unsupported place of a pattern")
        return spelled(_single(ord(character)))

    def _group(self) -> Node:
        if self._take("?"):
            kind = self._next()
            if kind == "<" and self._peek() not in ("=", "!", ""):
                self._until(">")
            elif kind != ":":
                raise Unsupported("a pattern looks around or sets flags")
        body = self._alternatives()
        if not self._take(")"):
            raise Unsupported("a group of a pattern is not closed, or holds an anchor")
        return body

    def _class(self) -> Ranges:
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        while not self._take("]"):
            first = self._class_atom()
            if self._peek() == "-" and self._pattern[self.position + 1 : self.position + 2] not in ("]", ""):
                self._next()
                last = self._class_atom()
                if len(first) != 1 or len(last) != 1 or first[0][0] > last[0][1]:
                    raise Unsupported("a range of a pattern is malformed")
                first = ((first[0][0], last[0][1]),)
            ranges += first
        return intersection(complement(ranges), PRINTABLE) if negated else tuple(ranges)

    def _class_atom(self) -> Ranges:
        character = self._next()
        if character == "\\":
            if self._take("b"):
                return _single(0x08)
            return self._escape()
        return _single(ord(character))

    def _escape(self) -> Ranges:
        letter = self._next()
        if letter in _CLASSES:
            return _CLASSES[letter]
        if letter in "DWS":  # ASCII only: engines differ about the rest
            return intersection(complement(_CLASSES[letter.lower()]), _ASCII)
        if letter in _CONTROLS:
            return _single(_CONTROLS[letter])
        if letter in "xu":
            return _single(self._code(letter))
        if letter.isalnum():
            raise Unsupported(f"a pattern uses \\{letter}")
        return _single(ord(letter))

    def _code(self, letter: str) -> int:
        if letter == "u" and self._take("{"):
            digits = self._until("}")
        else:
            digits = "".join(self._next() for _ in range(2 if letter == "x" else 4))
        try:
            code = int(digits, 16)
        except ValueError:
            code = -1
        if not 0 <= code <= 0x10FFFF:
            raise Unsupported("a pattern has a malformed escape")
        return code

    def _until(self, end: str) -> str:
        start = self.position
        self.position = self._pattern.find(end, start) + 1
        if not self.position:
            raise Unsupported("a pattern ends too early")
        return self._pattern[start : self.position - 1]

    def _peek(self) -> str:
        return self._pattern[self.position : self.position + 1]

    def _take(self, character: str) -> bool:
        taken = self._peek() == character
        self.position += taken
        return taken

    def _next(self) -> str:
        character = self._peek()
        if not character:
            raise Unsupported("a pattern ends too early")
        self.position += 1
        return character


def _single(code: int) -> Ranges:
    return ((code, code),)
