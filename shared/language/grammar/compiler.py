"""Answer grammars made ready for a vocabulary: each schema compiled once and kept, least recently used out first."""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import llguidance

from shared.errors import BadInput
from shared.language import specials
from shared.language.grammar.automaton import Automaton
from shared.language.grammar.lark import lark_of
from shared.language.grammar.schema import check_schema, grammar_of
from shared.language.grammar.source import AnswerGrammar
from shared.language.grammar.tokens import FewestTokens, TokenTable

MAX_VALUES = 512
MAX_ENTRIES = 1_000_000
"""An automaton that has grown beyond this is built anew at its next use."""


@dataclass(frozen=True)
class CompiledValue:
    """JSON of one schema. ``reasons``: what of the schema is not enforced. ``matcher``: None where no masks are
    wanted."""

    automaton: Automaton
    reasons: tuple[str, ...]
    shortest: tuple[int, ...]
    """Of all texts one of the shortest, in tokens."""
    matcher: llguidance.LLMatcher | None


@dataclass
class CompileFigures:
    compiled: int = 0
    hits: int = 0
    seconds: float = 0.0
    """Spent compiling, all in all."""
    slowest_seconds: float = 0.0


@dataclass(frozen=True)
class CompiledAnswer:
    """Everything that the masks of one answer need; answers of equal form share the values."""

    source: AnswerGrammar
    table: TokenTable
    tools: dict[str, CompiledValue]
    content: CompiledValue | None
    content_start: int = 0
    """State of ``content`` behind the prefix."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is not enforced, and where."""
        named = [(f"tools.{name}", value) for name, value in self.tools.items()]
        named += [("response_format", self.content)] if self.content else []
        return tuple(f"{name}{reason}" for name, value in named for reason in value.reasons)

    @cached_property
    def special(self) -> Callable[[str], int]:
        return self.table.vocabulary.special

    @cached_property
    def stops(self) -> tuple[int, ...]:
        return tuple(map(self.special, specials.STOPS))


@dataclass
class GrammarCompiler:
    """Threads may share it. ``masks``: False where only lengths and refusals are wanted."""

    table: TokenTable
    masks: bool = True
    max_values: int = MAX_VALUES
    figures: CompileFigures = field(default_factory=CompileFigures)
    _values: OrderedDict[str, CompiledValue] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def compile(self, source: AnswerGrammar) -> CompiledAnswer:
        """Raises BadInput naming the schema, and the place in it, that is malformed or cannot be enforced."""
        tools = {
            tool.name: self._value(tool.parameters, tool.strict, "object", f"tools[{index}].function.parameters")
            for index, tool in enumerate(source.tools)
        }
        content = None
        if source.content is not None:
            where = "response_format.json_schema.schema"
            content = self._value(source.content.schema, source.content.strict, None, where)
        return CompiledAnswer(source, self.table, tools, content, _behind_prefix(source, content))

    def _value(self, schema: Any, strict: bool, root_type: str | None, param: str) -> CompiledValue:
        key = json.dumps([schema, strict, root_type])
        with self._lock:
            known = self._values.get(key)
            if known is not None and known.automaton.size <= MAX_ENTRIES:
                self._values.move_to_end(key)
                self.figures.hits += 1
                return known
        started = time.perf_counter()
        try:
            value = self._compiled(schema, strict, root_type)
        except BadInput as error:
            raise BadInput(error.code, f"{param}: {error.message}", param=param) from error
        except RecursionError as error:
            raise BadInput("chat.unsupported_schema", f"{param} is nested too deeply", param=param) from error
        self._keep(key, value, time.perf_counter() - started)
        return value

    def _keep(self, key: str, value: CompiledValue, seconds: float) -> None:
        with self._lock:
            self.figures.compiled += 1
            self.figures.seconds += seconds
            self.figures.slowest_seconds = max(self.figures.slowest_seconds, seconds)
            self._values[key] = value
            while len(self._values) > self.max_values:
                self._values.popitem(last=False)

    def _compiled(self, schema: Any, strict: bool, root_type: str | None) -> CompiledValue:
        try:
            return self._enforced(schema, strict, root_type)
        except BadInput as error:
            if strict or error.code != "chat.unsupported_schema":
                raise
            check_schema(schema)
            loose = self._enforced({}, True, root_type)
            reasons = (f"/: not enforced, since {error.message}",)
            return CompiledValue(loose.automaton, reasons, loose.shortest, loose.matcher)

    def _enforced(self, schema: Any, strict: bool, root_type: str | None) -> CompiledValue:
        grammar, reasons = grammar_of(schema, strict=strict, root_type=root_type)
        automaton = Automaton(grammar)
        shortest = FewestTokens(self.table).tokens(automaton.closing(automaton.start))
        matcher = None
        if self.masks:
            lark = lark_of(grammar, automaton.productive)
            matcher = llguidance.LLMatcher(self.table.matcher_source(), lark, log_level=0)
            if matcher.is_error():
                raise BadInput("chat.unsupported_schema", "the schema is too large for token masks")
        return CompiledValue(automaton, reasons, tuple(shortest), matcher)


def _behind_prefix(source: AnswerGrammar, content: CompiledValue | None) -> int:
    if content is None:
        return 0
    state = content.automaton.read(content.automaton.start, source.prefix.encode())
    if state < 0:
        raise BadInput("chat.bad_prefix", "no answer of the wanted format begins with this content", param="messages")
    return state
