"""JSON's own marks as lexemes. Behind a colon or a comma one space may stand, as in the released chat template."""

from shared.language.grammar.characters import spelled_text
from shared.language.grammar.nodes import Node, Text, lexeme, optional, seq

OPEN_OBJECT = lexeme(Text("{"))
CLOSE_OBJECT = lexeme(Text("}"))
OPEN_ARRAY = lexeme(Text("["))
CLOSE_ARRAY = lexeme(Text("]"))
COMMA = lexeme(seq(Text(","), optional(Text(" "))))


def key(name: str) -> Node:
    return keyed(Text(spelled_text(name)))


def keyed(content: Node) -> Node:
    """A member's name and its colon; ``content`` is what stands between the quotation marks."""
    return lexeme(seq(Text('"'), content, Text('":'), optional(Text(" "))))
