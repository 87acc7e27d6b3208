"""A JSON Schema (Draft 2020-12) as a grammar of the JSON texts that satisfy it.

Texts are compact, but for one optional space behind a colon or comma; members come in declared order. Members that a
schema does not name appear only where it speaks of them or names none. Each distinct subschema becomes one rule, so
that recursion needs no care.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from shared.errors import BadInput
from shared.language.grammar import numbers
from shared.language.grammar.arrays import array
from shared.language.grammar.branches import ALSO, EXCLUDED, Brancher, Schema
from shared.language.grammar.characters import all_of, none_of, of_length, spelled_text, string
from shared.language.grammar.formats import FORMATS
from shared.language.grammar.merging import constants_of, equal
from shared.language.grammar.nodes import NEVER, Grammar, Node, Rule, Text, alt, lexeme, seq
from shared.language.grammar.objects import object_of
from shared.language.grammar.pattern import content_of
from shared.language.grammar.punctuation import CLOSE_ARRAY, CLOSE_OBJECT, COMMA, OPEN_ARRAY, OPEN_OBJECT, key
from shared.language.grammar.unsupported import Unsupported

MAX_RULES = 20_000
ANY_LEVELS = 4
"""Arrays and objects inside each other where a schema allows anything."""

_KEYWORDS_OF = {
    "object": ["properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"],
    "array": ["items", "prefixItems", "minItems", "maxItems", "uniqueItems"],
    "string": ["minLength", "maxLength", "pattern", "format"],
    "number": ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
}


def grammar_of(schema: Any, *, strict: bool, root_type: str | None = None) -> tuple[Grammar, tuple[str, ...]]:
    """The grammar, and what it leaves out of the schema. ``root_type``: the type that the text must have.

    Raises BadInput for a malformed schema, or, strictly, one beyond what is supported; it names the path.
    """
    check_schema(schema)
    compiler = SchemaCompiler(Brancher(schema, strict))
    try:
        start = compiler.value(schema if root_type is None else {"allOf": [schema, {"type": root_type}]}, "")
    except Unsupported as error:
        raise BadInput("chat.unsupported_schema", f"{error.path or '/'}: {error.reason}") from error
    return Grammar(start, compiler.rules), tuple(compiler.brancher.reasons)


def check_schema(schema: Any) -> None:
    """Raises BadInput when this is no JSON Schema."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        path = "/" + "/".join(map(str, error.absolute_path))
        raise BadInput("chat.bad_schema", f"{path}: {error.message[:300]}") from error
    except RecursionError as error:
        raise BadInput("chat.bad_schema", "the schema is nested too deeply") from error


@dataclass
class SchemaCompiler:
    brancher: Brancher
    rules: dict[str, Node] = field(default_factory=dict)
    _known: dict[str, Rule] = field(default_factory=dict)

    def value(self, schema: Any, path: str) -> Node:
        """The rule of ``schema``; equal schemas have one."""
        content = json.dumps(schema)
        if content not in self._known:
            rule = self._known[content] = self.rule(NEVER, path)
            self.rules[rule.name] = self._body(schema, path)
        return self._known[content]

    def rule(self, body: Node, path: str) -> Rule:
        if len(self.rules) >= MAX_RULES:
            raise Unsupported("the schema is too large", path)
        name = f"r{len(self.rules)}"
        self.rules[name] = body
        return Rule(name)

    def refuse(self, reason: str, path: str) -> None:
        self.brancher.refuse(reason, path)

    def _body(self, schema: Any, path: str) -> Node:
        return alt(self._branch(branch, path) for branch in self.brancher.branches(schema, path))

    def _branch(self, schema: Schema, path: str) -> Node:
        constants = constants_of(schema)
        if constants is not None:
            return self._constants(schema, constants, path)
        if not schema:
            return self.anything(ANY_LEVELS)
        return alt(self._typed(kind, schema, path) for kind in _types(schema))

    def _constants(self, schema: Schema, constants: Iterable[Any], path: str) -> Node:
        rest = {key: value for key, value in schema.items() if key not in ("enum", "const", EXCLUDED, ALSO)}
        root = self.brancher.root
        definitions = {key: root[key] for key in ("$defs", "definitions") if isinstance(root, dict) and key in root}
        fits = Draft202012Validator({**definitions, **rest}).is_valid
        excluded = schema.get(EXCLUDED, [])
        kept = [one for one in constants if fits(one) and not any(equal(one, other) for other in excluded)]
        scalars = [lexeme(Text(_scalar(one))) for one in kept if not isinstance(one, list | dict)]
        return alt([*scalars, *(constant(one) for one in kept if isinstance(one, list | dict))])

    def _typed(self, kind: str, schema: Schema, path: str) -> Node:
        if kind == "null":
            return lexeme(Text("null"))
        if kind == "boolean":
            return lexeme(alt([Text("true"), Text("false")]))
        if kind == "string":
            return self._string(schema, path)
        if kind in ("number", "integer"):
            return self._number(kind, schema, path)
        if EXCLUDED in schema:
            self.refuse("'not' is supported for strings only", f"{path}/not")
        return array(self, schema, path) if kind == "array" else object_of(self, schema, path)

    def _string(self, schema: Schema, path: str) -> Node:
        contents = []
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        if least or most is not None:
            contents.append(of_length(int(least), None if most is None else int(most)))
        if texts := [text for text in schema.get(EXCLUDED, []) if isinstance(text, str)]:
            contents.append(none_of(texts))
        for pattern in [*schema.get(ALSO, []), *([schema["pattern"]] if "pattern" in schema else [])]:
            contents += self._pattern(pattern, f"{path}/pattern")
        if schema.get("format") in FORMATS:
            contents += self._pattern(FORMATS[schema["format"]], f"{path}/format")
        return string(all_of(contents))

    def _pattern(self, pattern: str, path: str) -> list[Node]:
        try:
            return [content_of(pattern)]
        except Unsupported as error:
            self.refuse(error.reason, path)
            return []

    def _number(self, kind: str, schema: Schema, path: str) -> Node:
        if any(isinstance(value, float | int) for value in schema.get(EXCLUDED, [])):
            self.refuse("'not' is supported for strings only", f"{path}/not")
        bounds = _bounds(schema)
        multiple = self._multiple(schema, path)
        if kind == "integer" or multiple is not None:
            return numbers.integer(bounds, multiple)
        return numbers.number(bounds)

    def _multiple(self, schema: Schema, path: str) -> int | None:
        multiple = schema.get("multipleOf")
        if multiple is None:
            return None
        if multiple < 1 and Decimal(1) % Decimal(str(multiple)) == 0:
            return 1
        if multiple != int(multiple) or multiple > numbers.MAX_DIVISOR:
            self.refuse(f"multipleOf must be a whole number up to {numbers.MAX_DIVISOR}", f"{path}/multipleOf")
            return None
        return int(multiple)

    def anything(self, levels: int) -> Node:
        """Any JSON, with at most so many levels of arrays and objects."""
        content = f"anything {levels}"
        if content not in self._known:
            rule = self._known[content] = self.rule(NEVER, "")
            self.rules[rule.name] = alt([*self._scalars(), *self._containers(levels)])
        return self._known[content]

    def _scalars(self) -> Iterable[Node]:
        constants = [lexeme(Text(text)) for text in ("null", "true", "false")]
        return string(all_of([])), numbers.number(numbers.Bounds()), *constants

    def _containers(self, levels: int) -> Iterable[Node]:
        if not levels:
            return []
        open_object = {"type": "object", "additionalProperties": True}
        return [
            array(self, {"type": "array"}, "", self.anything(levels - 1)),
            object_of(self, open_object, "", self.anything(levels - 1)),
        ]


def _types(schema: Schema) -> list[str]:
    """Stated types, else those that the keywords speak of: narrower than the specification, and what is meant."""
    if "type" in schema:
        types = schema["type"]
        types = [types] if isinstance(types, str) else list(types)
        return [kind for kind in types if kind != "integer" or "number" not in types]
    spoken_of = [kind for kind, keywords in _KEYWORDS_OF.items() if not schema.keys().isdisjoint(keywords)]
    return spoken_of or ["string", "number", "boolean", "null", "array", "object"]


def _bounds(schema: Schema) -> numbers.Bounds:
    lows = [(Decimal(str(schema[key])), key != "minimum") for key in ("minimum", "exclusiveMinimum") if key in schema]
    highs = [(Decimal(str(schema[key])), key == "maximum") for key in ("maximum", "exclusiveMaximum") if key in schema]
    low, open_low = max(lows, default=(None, False))
    high, closed_high = min(highs, default=(None, True))
    return numbers.Bounds(low, high, open_low, not closed_high)


def constant(value: Any) -> Node:
    """Exactly this value, made of the same lexemes as everything else."""
    if isinstance(value, Mapping):
        members = [seq(key(name), constant(member)) for name, member in value.items()]
        return seq(OPEN_OBJECT, *_separated(members), CLOSE_OBJECT)
    if isinstance(value, list):
        return seq(OPEN_ARRAY, *_separated([constant(item) for item in value]), CLOSE_ARRAY)
    return lexeme(Text(_scalar(value)))


def _separated(items: list[Node]) -> list[Node]:
    return [part for index, item in enumerate(items) for part in ((COMMA, item) if index else (item,))]


def _scalar(value: Any) -> str:
    return f'"{spelled_text(value)}"' if isinstance(value, str) else json.dumps(value)
