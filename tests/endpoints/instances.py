"""A value that fits a JSON Schema, found by reading the schema: what a model with constrained decoding would write.

Knows the keywords of draft 2020-12 that tools use; the property test over all schemas says whether that is enough.
"""

from typing import Any

import jsonschema

SAMPLES = ("x", "xxxxxx", "ab-123", "2026-01-02", "2026-01-02T03:04:05Z", "a@b.example")


def instance(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """Raises LookupError when nothing is found. ``root``: where references point into."""
    root = schema if root is None else root
    if schema is True or schema == {}:
        return "anything"
    if "$ref" in schema:
        return instance(_target(root, schema["$ref"]), root, depth)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for keyword in ("oneOf", "anyOf"):
        if keyword in schema:
            return _first(schema[keyword], schema, root, depth)
    kind = schema.get("type", "object")
    return _of_kind(kind[0] if isinstance(kind, list) else kind, schema, root, depth)


def _of_kind(kind: str, schema: dict[str, Any], root: Any, depth: int) -> Any:
    if kind == "object":
        return _object(schema, root, depth)
    if kind == "array":
        return _array(schema, root, depth)
    if kind == "string":
        return _first([{"const": text} for text in SAMPLES], schema, root, depth)
    if kind in ("integer", "number"):
        bounds = [schema.get(word, 1) for word in ("minimum", "maximum", "multipleOf")]
        return _first([{"const": number} for number in (*bounds, 0.5)], schema, root, depth)
    return True if kind == "boolean" else None


def _object(schema: dict[str, Any], root: Any, depth: int) -> dict[str, Any]:
    parts = [schema, *schema.get("allOf", ())]
    properties = {name: inner for part in parts for name, inner in part.get("properties", {}).items()}
    wanted = [name for part in parts for name in part.get("required", ())]
    if depth < 2:
        wanted += [name for name in properties if name not in wanted]
    value = {name: instance(properties[name], root, depth + 1) for name in wanted}
    while len(value) < schema.get("minProperties", 0):
        value[f"key_{len(value)}"] = instance(schema["additionalProperties"], root, depth + 1)
    return value


def _array(schema: dict[str, Any], root: Any, depth: int) -> list[Any]:
    if "prefixItems" in schema:
        return [instance(item, root, depth + 1) for item in schema["prefixItems"]]
    count, item = schema.get("minItems", 0), schema.get("items", True)
    if schema.get("uniqueItems"):
        return item["enum"][:count]
    return [instance(item, root, depth + 1) for _ in range(count)]


def _first(options: list[Any], schema: dict[str, Any], root: Any, depth: int) -> Any:
    for option in options:
        value = instance(option, root, depth + 1)
        if fits(value, schema, root):
            return value
    raise LookupError(f"nothing found for {schema}")


def fits(value: Any, schema: dict[str, Any], root: Any) -> bool:
    return jsonschema.Draft202012Validator({**schema, "$defs": root.get("$defs", {})}).is_valid(value)


def _target(root: Any, reference: str) -> Any:
    for name in reference.removeprefix("#/").split("/"):
        root = root[name]
    return root
