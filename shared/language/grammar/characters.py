"""Characters of JSON strings, and strings made of them (RFC 8259 section 7).

A pattern's character has one spelling here, so that patterns, lengths and exclusions can be told from the text as it
is written. Where anything goes, every escape but lone surrogates may be used too.
"""

import json
from collections.abc import Iterable, Sequence

from shared.language.grammar.nodes import (
    EMPTY,
    Node,
    Text,
    alt,
    both,
    chars,
    complement,
    intersection,
    lexeme,
    one_of,
    rep,
    seq,
)

Ranges = Iterable[tuple[int, int]]

SURROGATES = (0xD800, 0xDFFF)
_RAW = complement([(0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F), SURROGATES])
"""Characters that stand for themselves. DEL could too, but never has to."""
_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
PRINTABLE = (*_RAW, (0x22, 0x22), (0x5C, 0x5C))

_HEX = [(0x30, 0x39), (0x41, 0x46), (0x61, 0x66)]
_FOUR_HEX = alt(
    [
        seq(chars([*_HEX[:1], (0x41, 0x43), (0x45, 0x46), (0x61, 0x63), (0x65, 0x66)]), rep(chars(_HEX), 3, 3)),
        seq(one_of("dD"), one_of("01234567"), rep(chars(_HEX), 2, 2)),
    ]
)
ANY_CHARACTER = alt([chars(_RAW), seq(Text("\\"), alt([one_of('"\\/bfnrt'), seq(Text("u"), _FOUR_HEX)]))])
"""One character of any string, in any spelling."""


def spelled(ranges: Ranges) -> Node:
    """One character out of ``ranges``, in its one spelling."""
    wanted = tuple(ranges)
    controls = intersection(wanted, [(0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F)])
    escaped = (Text(_spelling(code)) for first, last in controls for code in range(first, last + 1))
    return alt([chars(intersection(wanted, _RAW)), *escaped])


def _spelling(code: int) -> str:
    return _SHORT.get(chr(code), f"\\u{code:04x}")


def spelled_text(text: str) -> str:
    """``text`` as it is written inside a string, each character in its one spelling."""
    return "".join(chr(code) if any(a <= code <= b for a, b in _RAW) else _spelling(code) for code in map(ord, text))


def string(content: Node) -> Node:
    return lexeme(seq(Text('"'), content, Text('"')))


def of_length(least: int, most: int | None) -> Node:
    return rep(ANY_CHARACTER, least, most)


def none_of(texts: Sequence[str]) -> Node:
    """Any text but these, in one spelling."""
    if not texts:
        return rep(spelled(PRINTABLE), 0, None)
    here = "" in texts
    heads = sorted({text[0] for text in texts if text})
    other = complement([*((ord(head), ord(head)) for head in heads), SURROGATES, (0, 0x1F), (0x7F, 0x7F)])
    ways = [seq(spelled(other), rep(spelled(PRINTABLE), 0, None))]
    for head in heads:
        rest = [text[1:] for text in texts if text.startswith(head)]
        ways.append(seq(spelled([(ord(head), ord(head))]), none_of(rest)))
    return alt(ways if here else [EMPTY, *ways])


def all_of(contents: Sequence[Node]) -> Node:
    """Content that is each of these at once; without any, whatever a string may hold."""
    if not contents:
        return of_length(0, None)
    combined = contents[0]
    for content in contents[1:]:
        combined = both(combined, content)
    return combined


def number_text(value: object) -> str:
    return json.dumps(value)
