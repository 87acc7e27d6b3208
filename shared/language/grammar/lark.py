"""A grammar in llguidance's Lark dialect, for quick token masks.

It may allow a little more than the grammar (divisibility is not said); whoever uses the masks asks the automaton too.
"""

from collections.abc import Callable

from shared.language.grammar.nodes import (
    NEVER,
    Alt,
    Both,
    Chars,
    Divisible,
    Grammar,
    Lexeme,
    Node,
    Rep,
    Rule,
    Seq,
    Text,
    alt,
    rep,
    seq,
)


def lark_of(grammar: Grammar, productive: Callable[[str], bool]) -> str:
    """``productive``: whether any text satisfies the rule of that name; the others are left out."""
    writer = _Writer(productive)
    lines = ['%llguidance {"no_forcing": true}', f"start: {writer.rule(grammar.start)}"]
    for name, body in grammar.rules.items():
        if productive(name):
            lines.append(f"{name}: {writer.rule(body)}")
    return "\n".join([*lines, *writer.terminals]) + "\n"


class _Writer:
    def __init__(self, productive: Callable[[str], bool]) -> None:
        self._productive = productive
        self._names: dict[str, str] = {}
        self.terminals: list[str] = []

    def rule(self, node: Node) -> str:
        pruned = self._pruned(node)
        return self._expression(pruned, self._terminal)

    def _pruned(self, node: Node) -> Node:
        """Without rules that nothing satisfies."""
        if isinstance(node, Rule):
            return node if self._productive(node.name) else NEVER
        if isinstance(node, Seq):
            return seq(*map(self._pruned, node.parts))
        if isinstance(node, Alt):
            return alt(map(self._pruned, node.options))
        if isinstance(node, Rep):
            return rep(self._pruned(node.body), node.least, node.most)
        return node

    def _terminal(self, node: Node) -> str:
        if isinstance(node, Rule):
            return node.name
        assert isinstance(node, Lexeme), "everything but rules stands in a lexeme"
        text = self._lexical(node.body)
        if text not in self._names:
            self._names[text] = f"T{len(self._names)}"
            self.terminals.append(f"{self._names[text]}: {text}")
        return self._names[text]

    def _expression(self, node: Node, leaf: Callable[[Node], str]) -> str:
        if isinstance(node, Seq):
            return f"({' '.join(self._expression(part, leaf) for part in node.parts)})" if node.parts else '""'
        if isinstance(node, Alt):
            return f"({' | '.join(self._expression(option, leaf) for option in node.options)})"
        if isinstance(node, Rep):
            return f"({self._expression(node.body, leaf)}){_count(node)}"
        return leaf(node)

    def _lexical(self, node: Node) -> str:
        """A terminal: one regular expression where possible, since combinations of them cost more."""
        if _is_plain(node):
            return f"/{_regex(node)}/"
        if isinstance(node, Both):
            return f"({self._lexical(node.left)} & {self._lexical(node.right)})"
        return self._expression(node, self._lexical)


def _is_plain(node: Node) -> bool:
    if isinstance(node, Seq):
        return all(map(_is_plain, node.parts))
    if isinstance(node, Alt):
        return all(map(_is_plain, node.options))
    return _is_plain(node.body) if isinstance(node, Rep) else not isinstance(node, Both)


def _regex(node: Node) -> str:
    if isinstance(node, Text):
        return "".join(map(_escaped, node.data))
    if isinstance(node, Chars):
        return f"[{''.join(f'{_escaped(chr(a))}-{_escaped(chr(b))}' for a, b in _without_surrogates(node))}]"
    if isinstance(node, Divisible):
        return "-?[0-9]+"
    if isinstance(node, Seq):
        return f"(?:{''.join(map(_regex, node.parts))})"
    if isinstance(node, Alt):
        return f"(?:{'|'.join(map(_regex, node.options))})"
    assert isinstance(node, Rep)
    return f"(?:{_regex(node.body)}){_count(node)}"


def _without_surrogates(node: Chars) -> list[tuple[int, int]]:
    pieces = []
    for first, last in node.ranges:
        if first < 0xD800:
            pieces.append((first, min(last, 0xD7FF)))
        if last > 0xDFFF:
            pieces.append((max(first, 0xE000), last))
    return pieces


def _escaped(character: str) -> str:
    return character if character.isascii() and character.isalnum() else f"\\x{{{ord(character):X}}}"


def _count(node: Rep) -> str:
    if (node.least, node.most) in ((0, None), (1, None), (0, 1)):
        return {(0, None): "*", (1, None): "+", (0, 1): "?"}[node.least, node.most]
    return f"{{{node.least},{'' if node.most is None else node.most}}}"
