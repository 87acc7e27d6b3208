"""Tools as the model was trained to read them: a TypeScript namespace, or compact JSON where a schema has no such form.

Input: OpenAI tool objects. Output: the text of the ``tool_declare`` turn. Rules and an example are in reference page
section 5 (``tool_declaration_ts.py``). Knows nothing of messages or tokens.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_INDENT = "  "
_MAX_DEPTH = 64
_SCALARS = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null"}
_UNION = {**_SCALARS, "object": "{}", "array": "Array<any>"}
_CONSTRAINTS = {
    "string": ("maxLength", "minLength", "pattern"),
    "number": ("maximum", "minimum"),
    "integer": ("maximum", "minimum"),
    "array": ("maxItems", "minItems"),
}


def declare(tools: Sequence[Mapping[str, Any]]) -> str:
    """Text of the declaration. Any schema that TypeScript cannot say turns the whole list into JSON, as released."""
    return typescript(tools) or json.dumps(sorted_deep(tools), ensure_ascii=False, separators=(",", ":"))


def typescript(tools: Sequence[Mapping[str, Any]]) -> str | None:
    """None where a schema has no such form, or where nothing but built-in tools is declared."""
    try:
        return _namespace(sorted_deep(tools)) or None
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None


def sorted_deep(value: Any) -> Any:
    """Keys in order on every level, as the released encoder sorts them first."""
    if isinstance(value, Mapping):
        return {key: sorted_deep(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [sorted_deep(item) for item in value]
    return value


def _namespace(tools: list[dict[str, Any]]) -> str:
    functions = [_function(tool["function"]) for tool in tools if tool.get("type") == "function"]
    if not functions:
        return ""
    return "# Tools\n\n## functions\nnamespace functions {\n" + "\n".join(functions) + "\n}\n"


def _function(function: Mapping[str, Any]) -> str:
    parameters = function.get("parameters") or {}
    scope = _Scope()
    body = _object(parameters, "", scope, 0)
    parts = [*_interfaces(parameters, body, scope), _comment(function.get("description") or "", "")]
    argument = "parameters" if scope.refers_to_root else body
    parts.append(f"type {function['name']} = (_: {argument}) => any;")
    return "\n".join(part for part in parts if part)


@dataclass
class _Scope:
    """What one function's schema defines and refers to."""

    definitions: dict[str, Any] = field(default_factory=dict)
    refers_to_root: bool = False


def _interfaces(parameters: Mapping[str, Any], body: str, scope: _Scope) -> list[str]:
    definitions = [
        _described(schema, f"interface {name} {_type(schema, '', scope, 0)}")
        for name, schema in list(scope.definitions.items())
    ]
    root = [f"interface parameters {body}"] if scope.refers_to_root else []
    return root + definitions


def _described(schema: Any, text: str) -> str:
    comment = _comment(schema.get("description") or "", "") if isinstance(schema, Mapping) else ""
    return f"{comment}\n{text}" if comment else text


def _comment(text: str, indent: str) -> str:
    return "\n".join(f"{indent}// {line}" if line else "" for line in text.split("\n")) if text else ""


def _docstring(schema: Any, indent: str) -> str:
    """Description and constraints as comment lines, each ended by a newline."""
    if not isinstance(schema, Mapping):
        return ""
    lines = [_comment(schema.get("description") or "", indent)]
    kind = _kind(schema)
    names = [name for name in _CONSTRAINTS.get(kind, ()) if name in schema]
    if names:
        lines.append(f"{indent}// " + ", ".join(f"{name}: {schema[name]}" for name in names))
    return "".join(f"{line}\n" for line in lines if line)


def _kind(schema: Mapping[str, Any]) -> str:
    """The schema's single type, or empty where a reference, a union or an enumeration stands in its place."""
    kind = schema.get("type")
    if any(word in schema for word in ("$ref", "anyOf", "enum")) or not isinstance(kind, str):
        return ""
    return kind


def _type(schema: Any, indent: str, scope: _Scope, depth: int) -> str:
    """The TypeScript type of one schema. Raises ValueError for what has none."""
    if depth > _MAX_DEPTH:
        raise ValueError("the schema is nested too deeply")
    if isinstance(schema, bool):
        return "any" if schema else "null"
    if not schema:
        return "any"
    if "$ref" in schema:
        return _reference(schema["$ref"], scope)
    if "anyOf" in schema:
        return " | ".join(_type(item, indent, scope, depth + 1) for item in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(_UNION[name] for name in kind)
    if kind == "object":
        return _object(schema, indent, scope, depth)
    if kind == "array":
        return _array(schema, indent, scope, depth)
    if kind in _SCALARS:
        return _SCALARS[kind]
    raise ValueError("the schema has no TypeScript form")


def _reference(reference: str, scope: _Scope) -> str:
    if reference == "#":
        scope.refers_to_root = True
        return "parameters"
    name = reference.removeprefix("#/$defs/")
    if name == reference or name not in scope.definitions:
        raise ValueError("the schema refers to something outside itself")
    return name


def _object(schema: Mapping[str, Any], indent: str, scope: _Scope, depth: int) -> str:
    scope.definitions.update(schema.get("$defs", {}))
    inner = indent + _INDENT
    properties = schema.get("properties", {})
    required = set(schema.get("required", ()))
    names = sorted(properties, key=lambda name: (name not in required, name))
    fields = [_property(name, properties[name], name in required, inner, scope, depth) for name in names]
    if schema.get("additionalProperties") is not None:
        fields.append(f"{inner}[k: string]: {_additional(schema['additionalProperties'], inner, scope, depth)}")
    return "{\n" + ",\n".join(fields) + f"\n{indent}}}" if fields else "{}"


def _additional(schema: Any, indent: str, scope: _Scope, depth: int) -> str:
    return "never" if schema is False else _type(schema, indent, scope, depth + 1)


def _property(name: str, schema: Any, required: bool, indent: str, scope: _Scope, depth: int) -> str:
    comment = _docstring(schema, indent)
    default = schema.get("default") if isinstance(schema, Mapping) else None
    if default is not None:
        # Numbers and booleans as Python writes them (True, False): the released encoder does.
        text = repr(default) if isinstance(default, int | float) else json.dumps(default, ensure_ascii=False)
        comment += f"{indent}// Default: {text}\n"
    return f"{comment}{indent}{name}{'' if required else '?'}: {_type(schema, indent, scope, depth + 1)}"


def _array(schema: Mapping[str, Any], indent: str, scope: _Scope, depth: int) -> str:
    items = schema.get("items") or {}
    inner = indent + _INDENT
    comment = _docstring(items, inner)
    if comment:
        return f"Array<\n{comment}{inner}{_type(items, inner, scope, depth + 1)}\n{indent}>"
    return f"Array<{_type(items, indent, scope, depth + 1)}>"
