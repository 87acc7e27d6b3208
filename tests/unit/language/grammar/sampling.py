"""Random logits driven through the masks of one answer, as an engine would."""

import numpy as np

from shared.language import specials
from shared.language.answer import AnswerParser
from shared.language.grammar.compiler import CompiledAnswer
from shared.language.grammar.mask import AnswerMask

MAX_DRAWS = 8


def draw(
    answer: CompiledAnswer, max_tokens: int, seed: int, replayed: list[int] | None = None
) -> tuple[list[int], str]:
    """Tokens without the one that ends the answer, and why it ended. ``replayed``: an earlier attempt's tokens."""
    mask = AnswerMask(answer, max_tokens)
    stops = set(answer.stops)
    tokens = list(replayed or [])
    assert all(mask.push(token) for token in tokens)
    while len(tokens) < max_tokens:
        token = choose(mask, np.random.default_rng([seed, len(tokens)]))
        if token in stops:
            assert mask.is_complete
            return tokens, "stop"
        tokens.append(token)
    return tokens, "length"


def choose(mask: AnswerMask, random: np.random.Generator) -> int:
    """Uniform among what is allowed, and again while refused."""
    number = random.random()
    for _ in range(MAX_DRAWS):
        ids = np.flatnonzero(mask.allowed())
        token = int(ids[int(number * len(ids))])
        if mask.push(token):
            return token
    raise AssertionError("no token was taken")


def parsed(answer: CompiledAnswer, tokens: list[int], pieces: int = 1) -> tuple[str, str, list[tuple[str, str, str]]]:
    """Reasoning, content and calls (id, name, arguments), parsed ``pieces`` tokens at a time."""
    parser = AnswerParser(answer.table.vocabulary, thinking=answer.source.thinking)
    deltas = [parser.push(tokens[start : start + pieces]) for start in range(0, len(tokens), pieces)]
    deltas.append(parser.finish())
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        for call in delta.tool_calls:
            known = calls.setdefault(call.index, ["", "", ""])
            known[0], known[1] = known[0] or call.id, known[1] or call.name
            known[2] += call.arguments
    assert list(calls) == list(range(len(calls)))
    reasoning, content = "".join(d.reasoning for d in deltas), "".join(d.content for d in deltas)
    assert not any(marker in reasoning + content for marker in specials.TOOL_MARKERS)
    return reasoning, content, [(i, name, arguments) for i, name, arguments in calls.values()]
