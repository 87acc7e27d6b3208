"""JSON from outside as typed structs: every problem is a BadInput that names the path of the field.

Pure. It must not know which bodies there are.
"""

import re
from typing import Any

import msgspec

from schemas import codec
from shared.errors import BadInput

_AT = re.compile(r"^(?P<problem>.*?)(?: - at (?:`key` in )?`(?:key in )?\$(?P<path>[^`]*)`)?$", re.DOTALL)
_FIELD = re.compile(r"(?:required|unknown) field `(?P<name>[^`]*)`")


def decode_body(data: bytes, kind: Any, *, prefix: str = "") -> Any:
    """``data`` as ``kind``. ``prefix`` is the path of ``data`` inside the whole body."""
    try:
        # msgspec does not look into the texts that it skips, and some of those travel on as they were sent.
        data.decode()
        return codec.decode_json(data, kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), prefix) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput("malformed_json", f"the body is not valid JSON: {error}") from error
    except RecursionError as error:
        raise BadInput("malformed_json", "the body is nested too deeply") from error


def refused(path: str, reason: str, code: str = "invalid_value") -> BadInput:
    return BadInput(code, f"{path}: {reason}", param=path)


def unsupported(path: str, reason: str) -> BadInput:
    return refused(path, reason, "unsupported_value")


def _invalid(text: str, prefix: str) -> BadInput:
    """msgspec says ``problem - at `$.path` ``; for a missing or unknown field the path is that of its object."""
    match = _AT.match(text)
    problem, path = (match["problem"], match["path"] or "") if match else (text, "")
    path = prefix + path
    field = _FIELD.search(problem)
    if field is not None:
        path += f".{field['name']}" if field["name"] else '[""]'
    path = path.lstrip(".")
    code = "missing_field" if "required field" in problem else "unknown_field" if field else "invalid_value"
    return BadInput(code, f"{path}: {problem}" if path else problem, param=path or None)
