"""The arguments of a tool call against the tool's JSON Schema.

Input: a schema as decoded JSON, then arguments as text. Output: what is wrong with them, in words, or None. Pure.
Schemas come from outside: nothing is fetched for them, and regular expressions in them are not run, since one
expression can take longer than anybody waits.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import jsonschema.validators
import msgspec
import referencing
import referencing.exceptions

from shared.errors import BadInput

Check = Callable[[str], str | None]
"""Arguments as text to what is wrong with them, or None."""


def arguments_check(schema: Any, where: str) -> Check:
    """The check of one tool's arguments; no schema allows any object. Raises BadInput naming ``where``."""
    if schema is None:
        schema = {"type": "object"}
    if not isinstance(schema, dict):
        raise BadInput("tools.schema", f"{where} is not a JSON schema", param=where)
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except (jsonschema.SchemaError, RecursionError) as error:
        raise BadInput("tools.schema", f"{where} is not a JSON schema", param=where) from error
    validator = _without_expressions(kind)(schema, registry=referencing.Registry())
    return lambda arguments: _reason(validator, arguments)


def _reason(validator: Any, arguments: str) -> str | None:
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return "they are not JSON"
    if not isinstance(value, dict):
        return "they are not a JSON object"
    try:
        error = next(validator.iter_errors(value), None)
    except (referencing.exceptions.Unresolvable, RecursionError, OverflowError):
        return None  # the schema cannot be followed to its end: no judgement is better than a wrong one
    if error is None:
        return None
    return f"{error.message} (at {error.json_path})"


def _without_expressions(kind: Any) -> Any:
    """``kind`` with everything that depends on a regular expression taken as fulfilled."""

    def fulfilled(*_: Any) -> Iterator[Any]:
        return iter(())

    def additional(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        if "patternProperties" in schema:
            return
        yield from kind.VALIDATORS["additionalProperties"](validator, value, instance, schema)

    changed = dict.fromkeys(("pattern", "patternProperties", "unevaluatedProperties"), fulfilled)
    return jsonschema.validators.extend(kind, {**changed, "additionalProperties": additional})
