"""``python -m tests.measure.grammar``: what grammars cost an engine, at the released vocabulary where it is at hand.

Answers are drawn at random under each schema of the tests, several for every schema, half of them in calls and half in
content. For each token the mask is written and the drawn token settled, as between two forwards; the sum is the cost.
Prints one JSON line: milliseconds per token and per schema, and how often a kept grammar was found. What is judged is
the time of the processor; the time that passed, which counts what else the machine does, stands beside it.
"""

import argparse
import json
import os
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shared.language.grammar.compiler import GrammarCompiler
from shared.language.grammar.mask import AnswerMask, minimum_tokens
from shared.language.grammar.source import AnswerGrammar, answer_grammar, decode_grammar
from shared.language.grammar.tokens import TokenTable
from shared.language.vocabulary import Vocabulary, load_vocabulary, tiny_vocabulary
from tests.unit.language.grammar.schemas import Schema, schemas

DATA = Path(os.environ.get("MOONTIDE_TEST_DATA_DIR", Path(__file__).parents[3] / "shared" / "data")) / "kimi-k2.6"
LIMIT_MILLISECONDS = 1.0
ANSWERS, MORE_TOKENS, FREE_TOKENS = 4, 90, 3


@dataclass
class Costs:
    """Seconds of each token (and whose it was), of each start, and of each schema's first compilation."""

    tokens: list[float] = field(default_factory=list)
    passed: list[float] = field(default_factory=list)
    """For the same tokens, by the clock on the wall."""
    names: list[str] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    compiles: list[float] = field(default_factory=list)

    def slowest(self, count: int) -> list[tuple[str, float]]:
        order = np.argsort(self.tokens)[::-1][:count]
        return [(self.names[place], milliseconds(self.tokens[place])) for place in order]


def wanted(schema: Schema, *, call: bool, thinking: bool) -> AnswerGrammar:
    """As it comes over the wire."""
    if call:
        tools = [{"type": "function", "function": {"name": "get_it", "parameters": schema}}]
        made = answer_grammar(thinking=thinking, tools=tools, tool_choice="required")
    else:
        form = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
        made = answer_grammar(thinking=thinking, response_format=form)
    assert made is not None
    return decode_grammar(made.encode())


def answer(compiler: GrammarCompiler, source: AnswerGrammar, name: str, seed: int, costs: Costs) -> None:
    """One answer with room for ``MORE_TOKENS`` beyond the shortest."""
    started, before = time.perf_counter(), compiler.figures.compiled
    compiled = compiler.compile(source)
    if compiler.figures.compiled > before:
        costs.compiles.append(time.perf_counter() - started)
    least, started = minimum_tokens(compiled), time.perf_counter()
    mask = AnswerMask(compiled, least + MORE_TOKENS)
    costs.starts.append(time.perf_counter() - started)
    rng = np.random.default_rng(seed)
    words = np.zeros(-(-compiler.table.size // 32), dtype="<i4")
    thought = 0
    while not mask.is_complete:
        began, started = time.perf_counter(), time.thread_time()
        mask.fill(words)
        cost, passed = time.thread_time() - started, time.perf_counter() - began
        ids = np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))
        token = int(rng.choice(ids))
        if source.thinking and (thought := thought + 1) == FREE_TOKENS:
            token = compiled.special("</think>")
        began, started = time.perf_counter(), time.thread_time()
        mask.settle(token)
        costs.tokens.append(cost + time.thread_time() - started)
        costs.passed.append(passed + time.perf_counter() - began)
        costs.names.append(name)


def measure(vocabulary: Vocabulary, answers: int, count: int, seed: int) -> dict[str, Any]:
    """``count``: of schemas. Each is compiled once, and used again for its other answers."""
    started = time.perf_counter()
    table = TokenTable(vocabulary)
    table.matcher_source()
    assert table.ids
    loaded, compiler, costs = time.perf_counter() - started, GrammarCompiler(table, max_values=4096), Costs()
    picked = schemas()
    random.Random(seed).shuffle(picked)
    for number in range(answers):
        for index, (name, schema) in enumerate(picked[:count]):
            source = wanted(schema, call=(number + index) % 2 == 0, thinking=number % 2 == 1)
            answer(compiler, source, name, seed * 100_003 + number * 1009 + index, costs)
    figures = compiler.figures
    return {
        "vocabulary": vocabulary.size,
        "schemas": len(picked[:count]),
        "answers": len(costs.starts),
        "tokens": len(costs.tokens),
        "mask_ms": spread(costs.tokens),
        "mask_ms_passed": spread(costs.passed),
        "start_ms": spread(costs.starts),
        "compile_ms": spread(costs.compiles),
        "table_seconds": round(loaded, 2),
        "compiled": figures.compiled,
        "hits": figures.hits,
        "slowest": costs.slowest(3),
        "seed": seed,
    }


def spread(seconds: list[float]) -> dict[str, float]:
    quantiles = {"p50": 50, "p99": 99, "max": 100}
    return {name: milliseconds(float(np.percentile(seconds, at))) for name, at in quantiles.items()}


def milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--answers", type=int, default=ANSWERS, help="for each schema")
    parser.add_argument("--schemas", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    vocabulary = load_vocabulary(DATA) if DATA.is_dir() else Vocabulary(tiny_vocabulary())
    result = measure(vocabulary, options.answers, options.schemas, options.seed)
    good = result["mask_ms"]["p99"] <= LIMIT_MILLISECONDS
    print(json.dumps({**result, "ok": good}))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
