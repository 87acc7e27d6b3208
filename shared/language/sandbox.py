"""Where a checkpoint's own template runs: jinja2's sandbox, with bounds on time and size.

Input: the source of a template, and values. Output: text, or ``TemplateFailed``. Loops and calls look at the clock,
and operators, filters and calls that make long texts are refused; the rest is as far as jinja2's sandbox goes. Knows
nothing of messages or markers.
"""

import functools
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_SOURCE_CHARS = 256 * 1024
MAX_VALUE_CHARS = 64_000_000
DEFAULT_SECONDS = 5.0

FILTERS = frozenset(
    (
        *("abs", "capitalize", "count", "default", "d", "dictsort", "first", "float", "int", "items"),
        *("join", "last", "length", "list", "lower", "map", "reject", "rejectattr", "replace", "reverse"),
        *("select", "selectattr", "sort", "string", "title", "tojson", "trim", "unique", "upper"),
    )
)


class TemplateFailed(Exception):
    """The template is malformed, refused the conversation, or went beyond a bound."""


class BoundedTemplate:
    """One compiled template. Threads may share it."""

    def __init__(self, source: str, *, seconds: float | None = None) -> None:
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateFailed("the template is too long")
        self._environment = _Environment()
        self._seconds = DEFAULT_SECONDS if seconds is None else seconds
        try:
            self._template = self._environment.from_string(source)
        except (jinja2.TemplateError, RecursionError) as error:
            raise TemplateFailed(str(error)) from error

    def render(self, values: Mapping[str, Any], *, max_chars: int) -> str:
        self._environment.start(self._seconds)
        pieces: list[str] = []
        chars = 0
        try:
            for piece in self._template.generate(values):
                pieces.append(piece)
                chars += len(piece)
                _check_size(chars, max_chars)
        except Exception as error:  # whatever a foreign template may raise
            raise TemplateFailed(str(error)) from error
        return "".join(pieces)


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        self._run = threading.local()
        self.filters = {name: _sized(call) for name, call in self.filters.items() if name in FILTERS}
        self.filters["tojson"] = _sized(_to_json)
        self.globals = {"range": self.globals["range"], "namespace": self.globals["namespace"]}
        self.globals["raise_exception"] = _refuse

    def start(self, seconds: float) -> None:
        self._run.deadline = time.monotonic() + seconds

    def tick(self) -> None:
        if time.monotonic() > self._run.deadline:
            raise TemplateFailed("the template takes too long")

    def joined(self, *parts: Any) -> str:
        texts = [str(part) for part in parts]
        _check_size(sum(map(len, texts)))
        return "".join(texts)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        __self.tick()
        return _within_size(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or (operator == "%" and isinstance(left, str)):
            raise TemplateFailed(f"the operator {operator} is not for templates")
        if operator == "*":
            _check_size(_factor(left) * _factor(right))
        return _within_size(super().call_binop(context, operator, left, right))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.body.insert(0, nodes.ExprStmt(_method("tick", []), lineno=loop.lineno))
        _replace_concatenation(tree)
        return tree


def _method(name: str, arguments: list[nodes.Expr]) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)


def _replace_concatenation(node: nodes.Node) -> None:
    """``a ~ b`` becomes a call, whose result has a bound."""
    for child in node.iter_child_nodes():
        _replace_concatenation(child)
    for field, value in node.iter_fields():
        if isinstance(value, nodes.Concat):
            setattr(node, field, _method("joined", value.nodes))
        elif isinstance(value, list):
            value[:] = [_method("joined", v.nodes) if isinstance(v, nodes.Concat) else v for v in value]


def _factor(value: Any) -> int:
    return abs(value) if isinstance(value, int) else len(value) if isinstance(value, str | list | tuple) else 1


def _sized(call: Callable[..., Any]) -> Callable[..., Any]:
    """``wraps`` keeps jinja2's marks of what a filter wants to be given."""

    @functools.wraps(call)
    def bounded(*args: Any, **kwargs: Any) -> Any:
        return _within_size(call(*args, **kwargs))

    return bounded


def _within_size(value: Any) -> Any:
    if isinstance(value, str | list | tuple):
        _check_size(len(value))
    return value


def _check_size(size: int, limit: int = MAX_VALUE_CHARS) -> None:
    if size > limit:
        raise TemplateFailed("the template makes too much text")


def _refuse(message: str = "") -> None:
    """``raise_exception``: how released templates refuse a conversation."""
    raise TemplateFailed(message)


def _to_json(
    value: Any,
    *,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    """The ``tojson`` of released templates, which unlike jinja2's escapes nothing for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
