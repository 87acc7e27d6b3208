"""Configuration from the environment. The only file that reads ``os.environ``.

A service's configuration is a frozen msgspec struct. Field ``max_pixels`` of area ``INGEST`` is the variable
``MOONTIDE_INGEST_MAX_PIXELS``: one spelling, no command-line twin. Every problem is reported at once.
"""

import os
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

FOREIGN_NAMES = {
    "nats_url": "NATS_URL",
    "otlp_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
    "xdg_data_home": "XDG_DATA_HOME",
}
"""Fields that keep the name the rest of the world knows them by."""


class ConfigError(Exception):
    """All problems of a configuration, one line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def environment() -> dict[str, str]:
    """A copy of this process's environment, to hand to child processes."""
    return dict(os.environ)


def variable(area: str, field: str) -> str:
    return FOREIGN_NAMES.get(field, f"MOONTIDE_{area.upper()}_{field.upper()}")


def load(kind: type[T], area: str, environ: Mapping[str, str] | None = None) -> T:
    """``kind`` filled from ``MOONTIDE_<AREA>_*``. Raises ConfigError naming every bad or missing value."""
    environ = os.environ if environ is None else environ
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    problems: list[str] = []
    for field in msgspec.structs.fields(kind):
        name = variable(area, field.name)
        text = environ.get(name)
        if text is None or text == "":
            if field.required:
                problems.append(f"{name} is required")
            continue
        try:
            values[field.name] = parse(text, hints[field.name])
        except (ValueError, msgspec.ValidationError) as error:
            problems.append(f"{name}={text!r}: {error}")
    if problems:
        raise ConfigError(problems)
    return kind(**values)


def parse(text: str, hint: Any) -> Any:
    """One value: booleans are exactly ``true`` or ``false``, numbers are plain, lists are comma separated."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(kind for kind in get_args(hint) if kind is not type(None))
    if hint is Path:
        return Path(text)
    if hint is bool:
        if text not in ("true", "false"):
            raise ValueError("expected true or false")
        return text == "true"
    if get_origin(hint) is tuple:
        return tuple(parse(item.strip(), get_args(hint)[0]) for item in text.split(",") if item.strip())
    return msgspec.convert(text, hint, strict=False)
