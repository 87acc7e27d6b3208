"""At least 300 satisfiable schemas of objects, always the same: what ``moontide verify`` asks, and drawn ones."""

import random
from collections.abc import Callable
from typing import Any

from services.cli.verify.schemas import cases

Schema = dict[str, Any]

DRAWN = 180
FORMATS = ("date", "time", "date-time", "email", "uuid", "ipv4", "ipv6", "uri", "hostname", "duration")
PATTERNS = (
    "^[A-Z]{3}$",
    "[0-9]+",
    r"^\d{3}-\d{4}$",
    "^(foo|bar(baz)?)+$",
    '^[^"\\\\]*$',
    r"^\S+@\S+$",
    "^é{2}[中-文]?$",
    "x",
    "^a.c",
    r"^[\w.-]{1,8}$",
)


def schemas() -> list[tuple[str, Schema]]:
    drawn = [(f"drawn {seed}", drawn_object(random.Random(seed), 3)) for seed in range(DRAWN)]
    return [*((case.name, case.schema) for case in cases()), *drawn]


def drawn_object(choice: random.Random, depth: int) -> Schema:
    names = choice.sample(["a", "city", "long_name", "ä", 'q"', "$ref", "items", "z9", "", "x y"], choice.randint(0, 5))
    properties = {name: drawn_value(choice, depth - 1) for name in names}
    schema: Schema = {"type": "object", "properties": properties}
    schema["required"] = [name for name in names if choice.random() < 0.5]
    further: list[Any] = [None, True, False, {"type": "integer"}]
    if (kind := choice.choice(further)) is not None:
        schema["additionalProperties"] = kind
    if choice.random() < 0.2:
        schema["maxProperties"] = len(names) + choice.randint(0, 2)
    return schema


def drawn_value(choice: random.Random, depth: int) -> Schema:
    makers: list[Callable[[random.Random], Schema]] = [_text, _text, _whole, _real, _constants, _plain]
    if depth > 0:
        makers += [
            lambda c: drawn_object(c, depth),
            lambda c: _list(c, depth),
            lambda c: _tuple(c, depth),
            lambda c: {"anyOf": [drawn_value(c, depth - 1) for _ in range(c.randint(1, 3))]},
        ]
    return choice.choice(makers)(choice)


def _plain(choice: random.Random) -> Schema:
    return choice.choice([{"type": "boolean"}, {"type": "null"}, {}, {"type": ["integer", "string"]}])


def _text(choice: random.Random) -> Schema:
    kind = choice.randint(0, 3)
    if kind == 0:
        least = choice.randint(0, 6)
        return {"type": "string", "minLength": least, "maxLength": least + choice.randint(0, 9)}
    if kind == 1:
        return {"type": "string", "pattern": choice.choice(PATTERNS)}
    return {"type": "string", "format": choice.choice(FORMATS)} if kind == 2 else {"type": "string"}


def _whole(choice: random.Random) -> Schema:
    low = choice.randint(-2000, 2000)
    schema: Schema = {"type": "integer", "minimum": low}
    if choice.random() < 0.6:
        schema["maximum"] = low + choice.choice([0, 7, 100, 12345])
    if choice.random() < 0.3:
        schema = {"type": "integer", "multipleOf": choice.choice([2, 7, 13, 250])} | (
            {"minimum": low} if choice.random() < 0.5 else {}
        )
    return schema


def _real(choice: random.Random) -> Schema:
    low = choice.choice([-12.75, -1, 0, 0.001, 3.5, 99.99])
    schema: Schema = {"type": "number", choice.choice(["minimum", "exclusiveMinimum"]): low}
    if choice.random() < 0.7:
        schema[choice.choice(["maximum", "exclusiveMaximum"])] = low + choice.choice([0.002, 0.5, 10, 1000.25])
    return schema


def _constants(choice: random.Random) -> Schema:
    values = [1, -2.5, "a", "b\n", "ß", True, None, [], [1, {"k": "v"}], {"x": None}, "</think>"]
    picked = choice.sample(values, choice.randint(1, 4))
    return {"const": picked[0]} if choice.random() < 0.3 else {"enum": picked}


def _list(choice: random.Random, depth: int) -> Schema:
    least = choice.randint(0, 2)
    schema: Schema = {"type": "array", "items": drawn_value(choice, depth - 1), "minItems": least}
    if choice.random() < 0.5:
        schema["maxItems"] = least + choice.randint(0, 3)
    return schema


def _tuple(choice: random.Random, depth: int) -> Schema:
    leading = [drawn_value(choice, depth - 1) for _ in range(choice.randint(1, 3))]
    return {"type": "array", "prefixItems": leading, "items": choice.choice([False, {"type": "null"}]), "minItems": 1}
