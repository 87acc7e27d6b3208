"""The objects that a flat schema describes. Members keep the declared order; no name can appear twice with two
meanings, because further names exclude the declared ones.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.language.grammar.characters import none_of
from shared.language.grammar.nodes import (
    EMPTY,
    NEVER,
    Node,
    alt,
    both,
    optional,
    rep,
    seq,
)
from shared.language.grammar.pattern import content_of
from shared.language.grammar.punctuation import CLOSE_OBJECT, COMMA, OPEN_OBJECT, key, keyed
from shared.language.grammar.unsupported import Unsupported

if TYPE_CHECKING:
    from shared.language.grammar.schema import SchemaCompiler


@dataclass(frozen=True)
class Member:
    node: Node
    required: bool


def object_of(compiler: "SchemaCompiler", schema: dict[str, Any], path: str, value: Node | None = None) -> Node:
    """``value``: what members have that the schema does not name, where the schema says ``true``."""
    members = _members(compiler, schema, path)
    further = _further(compiler, schema, path, value)
    most = schema.get("maxProperties")
    if most is not None:
        members = _at_most(members, int(most))
    if members is None:
        return NEVER
    least = int(schema.get("minProperties", 0)) - sum(member.required for member in members)
    members, least = _at_least(members, least)
    room = None if most is None else int(most) - len(members)
    if least > 1:
        compiler.refuse("minProperties asks for more than one further name", f"{path}/minProperties")
        least = 1
    return seq(OPEN_OBJECT, _chain(compiler, members, further, max(least, 0), room, path), CLOSE_OBJECT)


def _members(compiler: "SchemaCompiler", schema: dict[str, Any], path: str) -> list[Member]:
    properties, required = schema.get("properties", {}), list(schema.get("required", []))
    patterns = schema.get("patternProperties", {})
    otherwise = schema.get("additionalProperties", True)
    declared = {**properties, **{name: otherwise for name in required if name not in properties}}
    members = []
    for name, declaration in declared.items():
        for pattern, also in patterns.items():
            if _may_match(pattern, name):
                declaration = {"allOf": [declaration, also]}
        value = NEVER if declaration is False else compiler.value(declaration, f"{path}/properties/{name}")
        if value is NEVER and name not in required:
            continue
        members.append(Member(seq(key(name), value), name in required))
    return members


def _may_match(pattern: str, name: str) -> bool:
    import re

    try:
        return re.search(pattern, name) is not None
    except re.error:
        return True


def _further(compiler: "SchemaCompiler", schema: dict[str, Any], path: str, value: Node | None) -> Node:
    """A member that ``properties`` does not name; NEVER where there is none."""
    declared = list({**schema.get("properties", {}), **dict.fromkeys(schema.get("required", []))})
    patterns = schema.get("patternProperties", {})
    ways = []
    for pattern, declaration in patterns.items():
        where = f"{path}/patternProperties/{pattern}"
        try:
            name = both(content_of(pattern), none_of(declared))
        except Unsupported as error:
            compiler.refuse(error.reason, where)
            continue
        if len(patterns) > 1:
            declaration = {"allOf": list(patterns.values())}  # a name may match several
        ways.append(seq(keyed(name), compiler.value(declaration, where)))
    otherwise = schema.get("additionalProperties", not declared and not patterns)
    if otherwise is not False and not patterns:
        node = value if value is not None and otherwise is True else None
        node = node or compiler.value(otherwise, f"{path}/additionalProperties")
        ways.append(seq(keyed(none_of(declared)), node))
    return alt(ways)


def _at_most(members: list[Member], most: int) -> list[Member] | None:
    """The required ones and as many others as there is room for; None where there is not even room for those."""
    room = most - sum(member.required for member in members)
    if room < 0:
        return None
    kept = []
    for member in members:
        if member.required or room > 0:
            room -= not member.required
            kept.append(member)
    return kept


def _at_least(members: list[Member], missing: int) -> tuple[list[Member], int]:
    """Optional ones become required until enough are; and how many are still missing."""
    kept = []
    for member in members:
        raised = not member.required and missing > 0
        missing -= raised
        kept.append(Member(member.node, True) if raised else member)
    return kept, missing


def _chain(
    compiler: "SchemaCompiler", members: list[Member], further: Node, least: int, room: int | None, path: str
) -> Node:
    """Members from the last to the first: what may follow behind a member, and at the beginning."""
    most = None if room is None else max(room, 0)
    following: Node = rep(seq(COMMA, further), least, most)
    first: Node = following if least else EMPTY
    if further is not NEVER and most != 0:
        rest = rep(seq(COMMA, further), max(least - 1, 0), None if most is None else most - 1)
        first = seq(further, rest) if least else optional(seq(further, rest))
    for member in reversed(members):
        with_first, with_following = seq(member.node, following), seq(COMMA, member.node, following)
        if member.required:
            first, following = with_first, with_following
        else:
            first, following = alt([with_first, first]), alt([with_following, following])
        first, following = compiler.rule(first, path), compiler.rule(following, path)
    return first
