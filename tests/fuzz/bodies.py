"""Bodies drawn from a JSON Schema: valid ones, nearly valid ones, and bytes that are no JSON any more.

Input: a schema with its references inside, a seeded ``random.Random``. The same seed gives the same bodies. It knows
nothing of what the fields mean, except good values that a caller names for them.
"""

import copy
import json
import random
import re
from collections.abc import Sequence
from typing import Any

TEXTS = ("", "a", "hi", "call_0", "$web_search", "get_weather", "ö🌕", "\ud800", "<|im_end|>", "x" * 300, "\x00", "\n")
TEXTS += ("data:image/png;base64,AA==", "ms://file-1", "#/$defs/a", "9" * 30)
JUNK: tuple[Any, ...] = (None, True, False, 0, -1, 1, 0.5, 1e308, -(2**63), 2**64, 10**400, [], {}, [[]], {"a": None})
JUNK += TEXTS
MAX_DEPTH = 7


class Bodies:
    def __init__(self, schema: dict[str, Any], draw: random.Random, good: dict[str, Sequence[Any]]) -> None:
        """``good``: values that a field of this name often has."""
        self._root = schema
        self._draw = draw
        self._good = good

    def body(self) -> bytes:
        """Mostly nearly valid JSON, sometimes valid, sometimes none."""
        value = self.value(self._root)
        for _ in range(self._draw.choice((0, 1, 1, 2, 3))):
            value = self.changed(value)
        data = json.dumps(value).encode()
        return self._damaged(data) if self._draw.random() < 0.05 else data

    def value(self, schema: Any, depth: int = 0) -> Any:
        """A value that fits ``schema``, as far as samples can tell."""
        if "$ref" in schema:
            return self.value(self._target(schema["$ref"]), depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._draw.choice(schema["enum"])
        if options := schema.get("anyOf") or schema.get("oneOf"):
            return self.value(self._draw.choice(options), depth)
        kind = schema.get("type")
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        return self._scalar(kind, schema) if kind else self._draw.choice(JUNK)

    def changed(self, value: Any) -> Any:
        """One place is replaced, removed, renamed or doubled."""
        value = copy.deepcopy(value)
        places = list(_places(value))
        if not places:
            return self._draw.choice(JUNK)
        holder, key = self._draw.choice(places)
        action = self._draw.choice(("replace", "replace", "remove", "add", "double"))
        if action == "replace":
            holder[key] = self._draw.choice(JUNK)
        elif action == "remove":
            del holder[key]
        elif isinstance(holder, dict):
            holder[self._draw.choice(TEXTS)] = holder[key]
        elif action == "double":
            holder += [holder[key]] * self._draw.choice((1, 10, 200))
        return value

    def _target(self, reference: str) -> Any:
        target: Any = self._root
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        return target

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        required, properties = schema.get("required", []), schema.get("properties", {})
        share = 0.15 if depth < MAX_DEPTH else 0.0
        wanted = [name for name in properties if name in required or self._draw.random() < share]
        value = {name: self._field(name, properties[name], depth + 1) for name in wanted}
        further = schema.get("additionalProperties")
        if isinstance(further, dict) and self._draw.random() < 0.5:
            value[self._draw.choice(("1", "17", "k"))] = self.value(further, depth + 1)
        elif not properties and self._draw.random() < 0.7:
            value |= {"type": "object", "properties": {"a": self._schema(0)}, "required": ["a"]}
        return value

    def _schema(self, depth: int) -> Any:
        """A JSON Schema, or nearly one: fields of type object without properties hold schemas here."""
        inner = self._schema(depth + 1) if depth < 3 else True
        options = ({"type": "string"}, {"type": "integer", "minimum": 0}, {"enum": [1, "a", None]}, {"$ref": "#"})
        options += ({"type": "array", "items": inner}, {"anyOf": [inner, {"type": "null"}]}, {"pattern": "(a|b)+$"})
        options += ({"type": "object", "properties": {"b": inner}}, {"$ref": "#/nowhere"}, {"type": "moon"}, inner)
        return self._draw.choice(options)

    def _field(self, name: str, schema: Any, depth: int) -> Any:
        if name in self._good and self._draw.random() < 0.8:
            return copy.deepcopy(self._draw.choice(self._good[name]))
        return self.value(schema, depth)

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        least = schema.get("minItems", 0)
        count = min(schema.get("maxItems", 4), least + self._draw.choice((0, 1, 1, 2, 3)))
        if depth >= MAX_DEPTH:
            count = least
        return [self.value(schema.get("items", {}), depth + 1) for _ in range(count)]

    def _scalar(self, kind: str, schema: dict[str, Any]) -> Any:
        if kind == "string":
            fitting = [text for text in TEXTS if _fits_text(text, schema)]
            return self._draw.choice(fitting or ["a"])
        if kind == "boolean":
            return self._draw.random() < 0.5
        if kind == "null":
            return None
        low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
        high = min(schema.get("maximum", low + 100), low + 100)
        return self._draw.randint(low, high) if kind == "integer" else round(self._draw.uniform(low, high), 3)

    def _damaged(self, data: bytes) -> bytes:
        cut = self._draw.randrange(len(data) + 1)
        choices = (
            data[:cut],
            data[:cut] + b"\xff" + data[cut:],
            data[:cut] + b"NaN" + data[cut:],
            b"\xef\xbb\xbf" + data,
        )
        return self._draw.choice((*choices, b"[" * 20_000, b'{"a":' * 5_000, b"", data + data, b"\x00" * 100))


def _fits_text(text: str, schema: dict[str, Any]) -> bool:
    fits = schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", len(text))
    return fits and re.search(schema.get("pattern", ""), text) is not None


def _places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything inside."""
    if isinstance(value, dict):
        inner = [place for item in value.values() for place in _places(item)]
        return [(value, key) for key in value] + inner
    if isinstance(value, list):
        inner = [place for item in value for place in _places(item)]
        return [(value, index) for index in range(len(value))] + inner
    return []
