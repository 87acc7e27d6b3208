"""Whether a JSON Schema that somebody sends is one: draft 2020-12, of bounded size, with references into itself only.

Pure. Input: a decoded schema and its JSON path. Output: nothing, or BadInput naming the part that is wrong. What a
grammar can enforce of it is said by whoever enforces it.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import jsonschema
import msgspec

from shared.errors import BadInput

MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
_REMEMBERED_BYTES = 16 * 1024
_DATA_KEYWORDS = {"enum": list, "examples": list, "const": object, "default": object}
"""Their values are data, not schemas."""

_Problem = tuple[tuple[str | int, ...], str]


def check_schema(schema: Any, path: str) -> None:
    """Raises BadInput(``invalid_schema``)."""
    data = msgspec.json.encode(schema)
    if len(data) > MAX_BYTES:
        raise BadInput("invalid_schema", f"{path}: a schema may have {MAX_BYTES} bytes", param=path)
    problem = _remembered(data) if len(data) <= _REMEMBERED_BYTES else _problem(schema)
    if problem is not None:
        place, text = problem
        raise BadInput("invalid_schema", f"{_path(path, place)}: {text}", param=_path(path, place))


def check_object_schema(schema: dict[str, Any], path: str) -> None:
    """``check_schema`` for the parameters of a function."""
    check_schema(schema, path)
    if schema.get("type", "object") != "object":
        raise BadInput("invalid_schema", f"{path}.type: must be 'object'", param=f"{path}.type")


@lru_cache(maxsize=512)
def _remembered(data: bytes) -> _Problem | None:
    """The tools of an agent come again with every step."""
    return _problem(msgspec.json.decode(data))


def _problem(schema: Any) -> _Problem | None:
    for place, value in _walk(schema):
        if len(place) > MAX_DEPTH:
            return place[:4], f"nested deeper than {MAX_DEPTH}"
        reference = value.get("$ref") if isinstance(value, dict) else None
        if isinstance(reference, str) and not _resolves(schema, reference):
            return (*place, "$ref"), f"{reference[:200]!r} is not a part of this schema"
    return _not_a_schema(schema)


def _not_a_schema(schema: Any) -> _Problem | None:
    try:
        jsonschema.Draft202012Validator.check_schema(
            schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
        )
    except jsonschema.SchemaError as error:
        return tuple(error.absolute_path), error.message[:300]
    except RecursionError:
        return (), "nested too deeply"
    except OverflowError as error:
        return (), f"a number is too large: {error}"
    return None


def _walk(schema: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value that can hold a schema, with its place; not deeper than just beyond ``MAX_DEPTH``."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), schema)]
    while waiting:
        place, value = waiting.pop()
        yield place, value
        if isinstance(value, dict):
            waiting += [((*place, key), item) for key, item in value.items() if not _is_data(key, item)]
        elif isinstance(value, list):
            waiting += [((*place, index), item) for index, item in enumerate(value)]


def _is_data(key: str, value: Any) -> bool:
    return key in _DATA_KEYWORDS and isinstance(value, _DATA_KEYWORDS[key])


def _resolves(schema: Any, reference: str) -> bool:
    """JSON Pointers (RFC 6901) as URI fragments."""
    if reference == "#":
        return True
    if not reference.startswith("#/"):
        return False
    value = schema
    for step in unquote(reference[2:]).split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key[:9]) < len(value):
            value = value[int(key[:9])]
        else:
            return False
    return isinstance(value, dict | bool)


def _path(path: str, place: tuple[str | int, ...]) -> str:
    return path + "".join(f"[{step}]" if isinstance(step, int) else f".{step[:100]}" for step in place)
