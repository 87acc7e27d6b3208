"""Two flat schemas that must both hold as one, and whether two of them exclude each other. Pure."""

from collections.abc import Callable
from typing import Any

from shared.language.grammar.unsupported import Unsupported

Schema = dict[str, Any]

_TYPES = ("null", "boolean", "object", "array", "number", "integer", "string")


def types_of(schema: Schema) -> frozenset[str]:
    """Types a flat schema says; all of them where it says none. ``number`` includes ``integer``."""
    stated = schema.get("type", list(_TYPES))
    types = {stated} if isinstance(stated, str) else set(stated)
    return frozenset(types | ({"integer"} if "number" in types else set()))


def merge(left: Schema, right: Schema) -> Schema | None:
    """Both at once, order of properties kept; None where nothing can satisfy both. Raises Unsupported."""
    if not left or not right:
        return left or right
    merged = {**left, **right}
    if "type" in left and "type" in right:
        types = types_of(left) & types_of(right)
        if not types:
            return None
        merged["type"] = sorted(types - {"integer"} if "number" in types else types)
    for keyword in left.keys() & right.keys() & _RULES.keys():
        merged[keyword] = _RULES[keyword](left[keyword], right[keyword])
    _merge_constants(left, right, merged)
    _merge_properties(left, right, merged)
    _merge_patterns(left, right, merged)
    return None if merged.get("enum") == [] else merged


def _both_of(left: Any, right: Any) -> Any:
    return left if left == right or right is True else right if left is True else {"allOf": [left, right]}


def _merge_items(left: list[Any], right: list[Any]) -> list[Any]:
    if len(left) != len(right):
        raise Unsupported("prefixItems of different lengths are combined")
    return [_both_of(a, b) for a, b in zip(left, right, strict=True)]


def _same(left: Any, right: Any) -> Any:
    if left != right:
        raise Unsupported("different values of one keyword are combined")
    return left


_RULES: dict[str, Callable[[Any, Any], Any]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
    "multipleOf": lambda a, b: _same(a, b) if a % b and b % a else max(a, b),
    "required": lambda a, b: list(dict.fromkeys([*a, *b])),
    "uniqueItems": lambda a, b: a or b,
    "format": _same,
    "items": _both_of,
    "prefixItems": _merge_items,
    "patternProperties": lambda a, b: {name: _both_of(a.get(name, True), b.get(name, True)) for name in {**a, **b}},
    "x-excluded": lambda a, b: [*a, *b],
}


def constants_of(schema: Schema) -> list[Any] | None:
    """The only values a flat schema names, or None."""
    if "const" in schema:
        return [value for value in [schema["const"]] if "enum" not in schema or _among(value, schema["enum"])]
    return schema.get("enum")


def _among(value: Any, values: list[Any]) -> bool:
    return any(equal(value, other) for other in values)


def equal(left: Any, right: Any) -> bool:
    """JSON equality: true is not 1, but 1.0 is."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return left == right


def _merge_constants(left: Schema, right: Schema, merged: Schema) -> None:
    ours, theirs = constants_of(left), constants_of(right)
    if ours is not None and theirs is not None:
        merged.pop("const", None)
        merged["enum"] = [value for value in ours if _among(value, theirs)]


def _merge_properties(left: Schema, right: Schema, merged: Schema) -> None:
    """A property that only one side declares must suit the other's ``additionalProperties``."""
    ours, theirs = left.get("properties", {}), right.get("properties", {})
    ours_else, theirs_else = left.get("additionalProperties", True), right.get("additionalProperties", True)
    if ours or theirs:
        merged["properties"] = {
            name: _both_of(ours.get(name, ours_else), theirs.get(name, theirs_else)) for name in {**ours, **theirs}
        }
    if "additionalProperties" in left and "additionalProperties" in right:
        merged["additionalProperties"] = (
            False if False in (ours_else, theirs_else) else _both_of(ours_else, theirs_else)
        )


def _merge_patterns(left: Schema, right: Schema, merged: Schema) -> None:
    patterns = [side["pattern"] for side in (left, right) if "pattern" in side]
    also = [*left.get("x-also", []), *right.get("x-also", []), *patterns[:-1]]
    if also:
        merged["x-also"] = list(dict.fromkeys(also))


def disjoint(left: Schema, right: Schema) -> bool:
    """Whether it is plain that no value suits both; False means: not plain."""
    if not types_of(left) & types_of(right):
        return True
    ours, theirs = constants_of(left), constants_of(right)
    if ours is not None and theirs is not None:
        return not any(_among(value, theirs) for value in ours)
    if types_of(left) & types_of(right) != {"object"}:
        return False
    return _closed_to(left, right) or _closed_to(right, left) or _tagged_apart(left, right)


def _closed_to(left: Schema, right: Schema) -> bool:
    known = left.get("properties", {})
    closed = left.get("additionalProperties") is False and "patternProperties" not in left
    return closed and any(name not in known for name in right.get("required", []))


def _tagged_apart(left: Schema, right: Schema) -> bool:
    """Some property that one side requires cannot suit both."""
    ours, theirs = left.get("properties", {}), right.get("properties", {})
    shared = (ours.keys() & theirs.keys()) & {*left.get("required", []), *right.get("required", [])}
    pairs = ((ours[name], theirs[name]) for name in shared)
    return any(isinstance(a, dict) and isinstance(b, dict) and _plainly_apart(a, b) for a, b in pairs)


def _plainly_apart(left: Schema, right: Schema) -> bool:
    combining = {"$ref", "anyOf", "oneOf", "allOf"}
    return not combining & (left.keys() | right.keys()) and disjoint(left, right)
