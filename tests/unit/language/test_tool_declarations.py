"""Tool declarations: the reference page's example, each rule, and the JSON fallback."""

from typing import Any

import pytest

from shared.language.tool_declarations import declare


def tool(parameters: dict[str, Any] | None, name: str = "f", description: str = "") -> dict[str, Any]:
    function: dict[str, Any] = {"name": name}
    if description:
        function["description"] = description
    if parameters is not None:
        function["parameters"] = parameters
    return {"type": "function", "function": function}


def body(*functions: str) -> str:
    return "# Tools\n\n## functions\nnamespace functions {\n" + "\n".join(functions) + "\n}\n"


def parameter(schema: Any) -> str:
    """The TypeScript of one required parameter ``x``, comments included."""
    text = declare([tool({"type": "object", "properties": {"x": schema}, "required": ["x"]})])
    head, tail = body("type f = (_: {\n@\n}) => any;").split("@")
    assert text.startswith(head), text
    assert text.endswith(tail), text
    return text[len(head) : -len(tail)]


def test_the_reference_example() -> None:
    weather = tool(
        {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "City name"},
                "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
                "opts": {
                    "type": "object",
                    "properties": {"a": {"type": "array", "items": {"type": "string"}}},
                    "additionalProperties": False,
                },
            },
            "required": ["city"],
        },
        "get_weather",
        "Get weather information.\nCall when needed.",
    )
    assert declare([weather]) == body(
        "// Get weather information.\n// Call when needed.\ntype get_weather = (_: {\n  // City name\n  city: string,\n"
        "  // maximum: 7, minimum: 1\n  days?: number,\n  opts?: {\n    a?: Array<string>,\n"
        "    [k: string]: never\n  },\n"
        '  // Default: "c"\n  unit?: "c" | "f"\n}) => any;'
    )


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "boolean", "default": True}, "  // Default: True\n  x: boolean"),
        ({"type": "number", "default": 0}, "  // Default: 0\n  x: number"),
        ({"type": "object"}, "  x: {}"),
        ({"type": "object", "additionalProperties": True}, "  x: {\n    [k: string]: any\n  }"),
        (
            {"type": "object", "additionalProperties": {"type": "integer"}},
            "  x: {\n    [k: string]: number\n  }",
        ),
        ({"type": "array"}, "  x: Array<any>"),
        ({"type": "array", "minItems": 1, "items": {"type": "null"}}, "  // minItems: 1\n  x: Array<null>"),
        (
            {"type": "array", "items": {"type": "string", "description": "one"}},
            "  x: Array<\n    // one\n    string\n  >",
        ),
        ({"enum": ["a", 1, None, True]}, '  x: "a" | 1 | None | True'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "  x: string | null"),
        ({"type": ["string", "object", "array"]}, "  x: string | {} | Array<any>"),
        ({"type": "string", "pattern": "^a", "maxLength": 3}, "  // maxLength: 3, pattern: ^a\n  x: string"),
        ({"type": "string", "description": "a\n\nb"}, "  // a\n\n  // b\n  x: string"),
        ({}, "  x: any"),
        (True, "  x: any"),
        (False, "  x: null"),
    ],
)
def test_types(schema: Any, text: str) -> None:
    assert parameter(schema) == text


def test_functions_without_parameters_and_other_kinds_of_tools() -> None:
    web = {"type": "builtin_function", "function": {"name": "$web_search"}}
    assert declare([web, tool(None), tool({}, "g")]) == body("type f = (_: {}) => any;", "type g = (_: {}) => any;")
    assert declare([web]) == '[{"function":{"name":"$web_search"},"type":"builtin_function"}]'


def test_definitions_and_references_to_the_root() -> None:
    schema = {
        "type": "object",
        "properties": {"node": {"$ref": "#/$defs/Node"}, "self": {"$ref": "#"}},
        "$defs": {
            "Node": {"type": "object", "description": "A node", "properties": {"next": {"$ref": "#/$defs/Node"}}}
        },
    }
    fields = "{\n  node?: Node,\n  self?: parameters\n}"
    assert declare([tool(schema)]) == body(
        f"interface parameters {fields}\n// A node\ninterface Node {{\n  next?: Node\n}}\n"
        "type f = (_: parameters) => any;"
    )


@pytest.mark.parametrize(
    "schema",
    [
        {"oneOf": [{"type": "string"}]},
        {"const": 1},
        {"type": "date"},
        {"$ref": "#/elsewhere"},
        {"type": "array", "items": 5},
    ],
)
def test_what_typescript_cannot_say_turns_the_list_into_json(schema: dict[str, Any]) -> None:
    tools = [tool({"type": "object", "properties": {"x": schema}}), tool({}, "ü")]
    text = declare(tools)
    assert text.startswith('[{"function":{"name":"f","parameters":{"properties":{"x":')
    assert text.endswith('{"function":{"name":"ü","parameters":{}},"type":"function"}]')


def test_endless_nesting_ends() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(200):
        schema = {"type": "array", "items": schema}
    assert declare([tool({"type": "object", "properties": {"x": schema}})]).startswith("[{")
