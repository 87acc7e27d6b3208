"""The arrays that a flat schema describes: leading items of their own, counts, and distinct ones out of a list."""

from typing import TYPE_CHECKING, Any

from shared.language.grammar.merging import constants_of
from shared.language.grammar.nodes import EMPTY, NEVER, Node, alt, optional, rep, seq
from shared.language.grammar.punctuation import CLOSE_ARRAY, COMMA, OPEN_ARRAY

if TYPE_CHECKING:
    from shared.language.grammar.schema import SchemaCompiler

MAX_IN_ANY_ORDER = 6
MAX_DISTINCT = 32


def array(compiler: "SchemaCompiler", schema: dict[str, Any], path: str, item: Node | None = None) -> Node:
    """``item``: what items are where the schema says nothing about them."""
    least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
    most = None if most is None else int(most)
    if schema.get("uniqueItems") and (most is None or most > 1):
        values = _listed(compiler, schema, path)
        if values is not None:
            return seq(OPEN_ARRAY, _Distinct(compiler, path, least, most).after(tuple(values), 0), CLOSE_ARRAY)
        compiler.refuse("uniqueItems is supported for lists of constants only", f"{path}/uniqueItems")
    leading = [
        compiler.value(leader, f"{path}/prefixItems/{index}")
        for index, leader in enumerate(schema.get("prefixItems", []))
    ]
    others = _others(compiler, schema, path, item, needed=least > len(leading))
    return seq(OPEN_ARRAY, _items(leading, others, least, most), CLOSE_ARRAY)


def _others(compiler: "SchemaCompiler", schema: dict[str, Any], path: str, item: Node | None, *, needed: bool) -> Node:
    declared = schema.get("items", needed or "prefixItems" not in schema)
    if declared is False:
        return NEVER
    return item if declared is True and item is not None else compiler.value(declared, f"{path}/items")


def _items(leading: list[Node], others: Node, least: int, most: int | None) -> Node:
    count = len(leading)
    if others is NEVER and least > count:
        return NEVER
    if most is not None:
        leading = leading[:most]
        if least > most:
            return NEVER
    more = None if most is None else most - count
    if not leading:
        rest = rep(seq(COMMA, others), max(least - 1, 0), None if most is None else max(most - 1, 0))
        body = EMPTY if most == 0 else seq(others, rest)
        return body if least or body is EMPTY else optional(body) if body is not NEVER else EMPTY
    tail = EMPTY if more is not None and more <= 0 else rep(seq(COMMA, others), max(least - count, 0), more)
    for index in range(len(leading) - 1, -1, -1):
        tail = seq(*([COMMA] if index else []), leading[index], tail)
        tail = tail if index < least else optional(tail)
    return tail


def _listed(compiler: "SchemaCompiler", schema: dict[str, Any], path: str) -> list[Node] | None:
    """One node for each possible item, or None where they cannot be listed."""
    if "prefixItems" in schema or "items" not in schema:
        return None
    values: list[Any] = []
    for branch in compiler.brancher.branches(schema["items"], f"{path}/items"):
        constants = constants_of(branch)
        if constants is None and branch.get("type") == "boolean":
            constants = [True, False]
        if constants is None:
            return None
        values += constants
    distinct = list({repr(value): value for value in values}.values())
    nodes = [compiler.value({"allOf": [schema["items"], {"const": value}]}, f"{path}/items") for value in distinct]
    return nodes if len(nodes) <= MAX_DISTINCT else None


class _Distinct:
    """Each value at most once: in any order where they are few, else in the order of the list."""

    def __init__(self, compiler: "SchemaCompiler", path: str, least: int, most: int | None) -> None:
        self._compiler, self._path = compiler, path
        self._least, self._most = least, most
        self._known: dict[tuple[tuple[Node, ...], int], Node] = {}

    def after(self, remaining: tuple[Node, ...], count: int) -> Node:
        """What may follow ``count`` items when ``remaining`` are unused."""
        if count == self._most:
            return EMPTY
        state = (remaining, count)
        if state not in self._known:
            in_any_order = len(remaining) + count <= MAX_IN_ANY_ORDER
            ways = [
                seq(
                    *([COMMA] if count else []),
                    value,
                    self.after((*(remaining[:index] if in_any_order else ()), *remaining[index + 1 :]), count + 1),
                )
                for index, value in enumerate(remaining)
            ]
            body = alt(ways)
            body = body if count < self._least else alt([body, EMPTY])
            self._known[state] = body if body in (EMPTY, NEVER) else self._compiler.rule(body, self._path)
        return self._known[state]
