"""A JSON Schema as alternatives without references, combinations and conditions: each a flat schema.

An alternative may accept less than the schema, never more. Keywords that cannot be treated so are ``Unsupported``;
leniently they are left out, and the reason is kept.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.language.grammar.merging import disjoint, merge
from shared.language.grammar.unsupported import Unsupported

Schema = dict[str, Any]

MAX_BRANCHES = 256
MAX_NESTING = 64

EXCLUDED = "x-excluded"
"""In a flat schema: constants that are not allowed (from ``not``)."""
ALSO = "x-also"
"""In a flat schema: further patterns that must be found."""

_PLAIN = frozenset(
    [
        "type",
        "enum",
        "const",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "properties",
        "required",
        "additionalProperties",
        "patternProperties",
        "minProperties",
        "maxProperties",
        "items",
        "prefixItems",
        "minItems",
        "maxItems",
        "uniqueItems",
    ]
)
_REMARKS = frozenset(
    [
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
        "$schema",
        "$id",
        "$comment",
        "$defs",
        "definitions",
        "$anchor",
        "contentEncoding",
        "contentMediaType",
        "contentSchema",
        "nullable",
        "strict",
    ]
)
_COMBINING = frozenset(
    ["$ref", "allOf", "anyOf", "oneOf", "if", "then", "else", "not", "dependentRequired", "dependentSchemas"]
)


@dataclass
class Brancher:
    """``root``: where references point into. ``reasons``: what was left out, leniently."""

    root: Any
    strict: bool
    reasons: list[str] = field(default_factory=list)
    _nesting: int = 0

    def branches(self, schema: Any, path: str) -> list[Schema]:
        """Alternatives of ``schema``; none where nothing is accepted. Raises Unsupported with the path."""
        if isinstance(schema, bool):
            return [{}] if schema else []
        if not isinstance(schema, Mapping):
            raise Unsupported("a schema must be an object or a boolean", path)
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise Unsupported("a schema refers to itself without end", path)
        try:
            return self._combined(schema, path)
        finally:
            self._nesting -= 1

    def refuse(self, reason: str, path: str) -> None:
        """Raise Unsupported, or note the reason where that is enough."""
        if self.strict:
            raise Unsupported(reason, path)
        note = f"{path or '/'}: {reason}"
        if note not in self.reasons:
            self.reasons.append(note)

    def _combined(self, schema: Mapping[str, Any], path: str) -> list[Schema]:
        for keyword in schema.keys() - _PLAIN - _REMARKS - _COMBINING:
            if not keyword.startswith("x-"):
                self.refuse(f"the keyword {keyword!r} is not supported", f"{path}/{keyword}")
        found = [{key: value for key, value in schema.items() if key in _PLAIN or key in (EXCLUDED, ALSO)}]
        for factor in self._factors(schema, path):
            found = self._product(found, factor, path)
        return found

    def _factors(self, schema: Mapping[str, Any], path: str) -> Iterable[list[Schema]]:
        if "$ref" in schema:
            yield self.branches(self._target(schema["$ref"], path), path)
        for keyword in ("allOf", "anyOf", "oneOf"):
            if keyword in schema:
                parts = [self.branches(part, f"{path}/{keyword}/{i}") for i, part in enumerate(schema[keyword])]
                yield from self._joined(keyword, parts, path)
        for keyword in ("then", "else"):  # both hold, so the condition does not matter
            if keyword in schema and "if" in schema:
                yield self.branches(schema[keyword], f"{path}/{keyword}")
        for dependents in schema.get("dependentRequired", {}).values():
            yield [{"required": list(dependents)}]
        for name, dependent in schema.get("dependentSchemas", {}).items():
            yield self.branches(dependent, f"{path}/dependentSchemas/{name}")
        if "not" in schema:
            yield from self._negated(schema["not"], f"{path}/not")

    def _joined(self, keyword: str, parts: Sequence[list[Schema]], path: str) -> Iterable[list[Schema]]:
        if keyword == "allOf":
            yield from parts
            return
        pairs = ((left, right) for i, left in enumerate(parts) for right in parts[:i])
        if keyword == "oneOf" and not all(disjoint(a, b) for left, right in pairs for a in left for b in right):
            self.refuse("alternatives of oneOf may overlap", f"{path}/oneOf")
        yield [branch for part in parts for branch in part]

    def _negated(self, schema: Any, path: str) -> Iterable[list[Schema]]:
        constants = None
        if isinstance(schema, Mapping) and len(schema) == 1:
            constants = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if constants is None:
            self.refuse("'not' is supported with const or enum only", path)
        else:
            yield [{EXCLUDED: list(constants)}]

    def _product(self, left: list[Schema], right: list[Schema], path: str) -> list[Schema]:
        if len(left) * len(right) > MAX_BRANCHES:
            raise Unsupported(f"more than {MAX_BRANCHES} combinations of alternatives", path)
        merged = []
        for a in left:
            for b in right:
                try:
                    both = merge(a, b)
                except Unsupported as error:
                    self.refuse(error.reason, path)
                    both = a
                if both is not None:
                    merged.append(both)
        return list({json.dumps(one, sort_keys=False): one for one in merged}.values())

    def _target(self, reference: Any, path: str) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise Unsupported("$ref must point into the same schema", f"{path}/$ref")
        target = self.root
        for step in reference[1:].split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~").replace("%25", "%").replace("%22", '"')
            try:
                target = target[int(step)] if isinstance(target, list) else target[step]
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise Unsupported(f"$ref {reference!r} points nowhere", f"{path}/$ref") from error
        return target
