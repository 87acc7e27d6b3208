"""JSON Schemas for tool parameters, many and varied, always the same ones.

Input: nothing. Output: named schemas whose root is an object. Leaves times containers, then what people really write
and what breaks parsers: references, conditions, odd names, width and depth. Each can be satisfied. Pure.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

LEAVES: dict[str, Schema] = {
    "string": {"type": "string"},
    "described": {"type": "string", "description": "The name of a city, for example “Łódź”"},
    "bounded_string": {"type": "string", "minLength": 3, "maxLength": 12},
    "pattern": {"type": "string", "pattern": "^[a-z]{2}-[0-9]{3}$"},
    "date": {"type": "string", "format": "date"},
    "enum": {"type": "string", "enum": ["celsius", "fahrenheit", "kelvin"]},
    "const": {"const": "v2"},
    "integer": {"type": "integer"},
    "bounded_integer": {"type": "integer", "minimum": -10, "maximum": -2},
    "multiple": {"type": "integer", "multipleOf": 7, "minimum": 1},
    "number": {"type": "number"},
    "open_interval": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "boolean": {"type": "boolean"},
    "nullable": {"type": ["string", "null"]},
}


def required(leaf: Schema) -> Schema:
    return _object({"value": leaf})


def strict(leaf: Schema) -> Schema:
    return {**_object({"value": leaf, "label": {"type": "string"}}), "additionalProperties": False}


def optional(leaf: Schema) -> Schema:
    return _object({"query": {"type": "string"}, "value": leaf}, required=["query"])


def listed(leaf: Schema) -> Schema:
    return _object({"values": {"type": "array", "items": leaf, "minItems": 1, "maxItems": 3}})


def nested(leaf: Schema) -> Schema:
    return _object({"outer": _object({"inner": _object({"value": leaf})})})


def either(leaf: Schema) -> Schema:
    return _object({"value": {"anyOf": [leaf, {"type": "object", "properties": {}, "maxProperties": 0}]}})


def mapped(leaf: Schema) -> Schema:
    values = {"type": "object", "additionalProperties": leaf, "minProperties": 1, "maxProperties": 3}
    return _object({"by_name": values})


CONTAINERS: tuple[Callable[[Schema], Schema], ...] = (required, strict, optional, listed, nested, either, mapped)


@dataclass(frozen=True)
class Case:
    name: str
    schema: Schema


def cases() -> tuple[Case, ...]:
    """At least 100, all different, in an order that does not change."""
    products = ((f"{box.__name__} {name}", box(leaf)) for box in CONTAINERS for name, leaf in LEAVES.items())
    special = (*_structures(), *_names(), *_widths(), *_everyday())
    return tuple(Case(name, schema) for name, schema in (*products, *special))


def _object(properties: dict[str, Schema], required: list[str] | None = None) -> Schema:
    wanted = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": wanted}


def _structures() -> Iterator[tuple[str, Schema]]:
    text, whole = {"type": "string"}, {"type": "integer"}
    yield "no properties", {"type": "object", "properties": {}}
    yield "closed and empty", {"type": "object", "properties": {}, "additionalProperties": False}
    yield (
        "one of two shapes",
        _object(
            {
                "shape": {
                    "oneOf": [_tagged("circle", {"radius": whole}), _tagged("box", {"width": whole, "height": whole})]
                }
            }
        ),
    )
    yield "all of two parts", {"type": "object", "allOf": [_object({"id": whole}), _object({"name": text})]}
    yield "reference", {**_object({"home": {"$ref": "#/$defs/address"}}), "$defs": {"address": _object({"city": text})}}
    yield (
        "shared reference",
        {
            **_object({"from": {"$ref": "#/$defs/point"}, "to": {"$ref": "#/$defs/point"}}),
            "$defs": {"point": _object({"x": {"type": "number"}, "y": {"type": "number"}})},
        },
    )
    yield (
        "recursive tree",
        {
            **_object({"root": {"$ref": "#/$defs/node"}}),
            "$defs": {
                "node": _object(
                    {"name": text, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}, required=["name"]
                )
            },
        },
    )
    yield (
        "linked list",
        {
            **_object({"head": {"$ref": "#/$defs/link"}}),
            "$defs": {
                "link": _object(
                    {"value": whole, "next": {"anyOf": [{"$ref": "#/$defs/link"}, {"type": "null"}]}}, ["value"]
                )
            },
        },
    )
    yield (
        "condition",
        {
            **_object({"kind": {"enum": ["mail", "phone"]}, "address": text, "number": whole}, ["kind"]),
            "if": {"properties": {"kind": {"const": "mail"}}},
            "then": {"required": ["address"]},
            "else": {"required": ["number"]},
        },
    )
    yield (
        "dependent",
        {
            **_object({"card": text, "billing_address": text}, ["card"]),
            "dependentRequired": {"card": ["billing_address"]},
        },
    )
    yield (
        "tuple",
        _object(
            {"range": {"type": "array", "prefixItems": [whole, whole], "items": False, "minItems": 2, "maxItems": 2}}
        ),
    )
    yield "matrix", _object({"rows": _list_of(_list_of({"type": "number"}, 2), 2)})
    yield (
        "distinct",
        _object({"tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 2}}),
    )
    yield "objects in a list", _object({"people": _list_of(_object({"name": text, "age": whole}), 1)})
    yield (
        "patterned names",
        _object({"headers": {"type": "object", "patternProperties": {"^x-": text}, "additionalProperties": False}}),
    )
    yield "not empty", _object({"text": {"type": "string", "not": {"const": ""}}})
    yield "mixed enum", _object({"level": {"enum": [1, "two", None, True]}})
    yield "default", _object({"limit": {"type": "integer", "default": 10, "minimum": 1, "maximum": 50}})
    yield "object constant", _object({"mode": {"const": {"name": "fast", "retries": 3}}})


def _tagged(name: str, properties: dict[str, Schema]) -> Schema:
    return {**_object({"kind": {"const": name}, **properties}), "additionalProperties": False}


def _list_of(item: Schema, count: int) -> Schema:
    return {"type": "array", "items": item, "minItems": count, "maxItems": count + 2}


def _names() -> Iterator[tuple[str, Schema]]:
    """Property names and enum values that careless templates and parsers break on."""
    odd = ["with space", "with-dash", "with.dot", "$dollar", "Größe", "名前", 'quo"te', "back\\slash", "a/b~c", "class"]
    yield from ((f"name {name!r}", _object({name: {"type": "string"}})) for name in odd)
    yield "odd values", _object({"separator": {"enum": ["\n", "\t", '"', "\\", "</tool_call>", "<|im_end|>", "🎞"]}})
    yield "words of schemas as names", _object({"type": {"type": "string"}, "properties": {"type": "string"}})


def _widths() -> Iterator[tuple[str, Schema]]:
    for count in (10, 40):
        yield f"{count} properties", _object({f"field_{number}": {"type": "integer"} for number in range(count)})
    deep: Schema = {"type": "string"}
    for level in range(8):
        deep = _object({f"level_{8 - level}": deep})
    yield "8 levels", deep
    yield "50 values", _object({"country": {"enum": [f"country-{number:02}" for number in range(50)]}})


def _everyday() -> Iterator[tuple[str, Schema]]:
    text, whole, flag = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
    yield (
        "weather",
        _object({"city": text, "unit": LEAVES["enum"], "days": {"type": "integer", "minimum": 1}}, ["city"]),
    )
    yield (
        "calendar",
        _object(
            {
                "title": text,
                "start": {"type": "string", "format": "date-time"},
                "guests": _list_of(text, 1),
                "online": flag,
            }
        ),
    )
    yield "database query", _object({"sql": text, "parameters": _list_of({"type": ["string", "number", "null"]}, 0)})
    yield "file edit", _object({"path": text, "edits": _list_of(_object({"line": whole, "text": text}), 1)})
    yield "web search", _object({"query": text, "count": {"type": "integer", "minimum": 1, "maximum": 20}}, ["query"])
    yield (
        "order",
        _object(
            {
                "customer": _object({"name": text, "email": {"type": "string", "format": "email"}}),
                "items": _list_of(
                    _object({"sku": LEAVES["pattern"], "quantity": {"type": "integer", "minimum": 1}}), 1
                ),
                "note": {"type": ["string", "null"]},
            }
        ),
    )
    yield "video cut", _object({"start_seconds": {"type": "number", "minimum": 0}, "frames": _list_of(whole, 1)})
    yield (
        "shell",
        {**_object({"command": _list_of(text, 1), "timeout": whole}, ["command"]), "additionalProperties": False},
    )
