"""Random weights that must call: every call and every formatted answer is valid, whatever dies in its middle."""

import asyncio
import json
from typing import Any

import jsonschema
import pytest

from tests.e2e.stack import Stack, wait_until
from tests.measure.constrained import BREAKS, DECOY, Case, cases, judged
from tests.unit.language.grammar.schemas import schemas

SCHEMAS = 10
KILLED_AT_CHARACTER = 40
LONG: dict[str, Any] = {
    "type": "object",
    "properties": {"lines": {"type": "array", "minItems": 12, "items": {"type": "string", "minLength": 12}}},
    "required": ["lines"],
    "additionalProperties": False,
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("at_once", [1, 20])
def test_calls_and_answers_are_valid(stack: Stack, at_once: int) -> None:
    found = asyncio.run(judged(stack.url, stack.model(), cases(SCHEMAS, seed=at_once), at_once))
    assert [what for what in found if what] == []


@pytest.mark.parametrize("sabotage", BREAKS)
def test_the_judge_sees_what_is_spoiled(stack: Stack, sabotage: str) -> None:
    name, schema = schemas()[0]
    found = asyncio.run(judged(stack.url, stack.model(), [Case(name, schema, "named", False, 1)], 1, sabotage))
    assert all(found)


@pytest.mark.parametrize("victim", ["services.inference", "services.tokenizer"])
def test_a_kill_in_the_middle_of_the_arguments_changes_no_character(stack: Stack, victim: str) -> None:
    tool = {"type": "function", "function": {"name": "get_it", "parameters": LONG}}
    choice = {"type": "function", "function": {"name": "get_it"}}
    request = {"tools": [DECOY, tool], "tool_choice": choice, "seed": 5, "max_tokens": 1500, "temperature": 1.0}
    undisturbed = arguments(stack, request)
    jsonschema.Draft202012Validator(LONG).validate(json.loads(undisturbed[0]))
    assert arguments(stack, request, victim) == undisturbed
    wait_until(stack.answers, 30, "an answer after the restart")


def arguments(stack: Stack, request: dict[str, Any], victim: str = "") -> list[str]:
    """Of all calls; ``victim`` is killed once some characters have come."""
    found: list[str] = []
    messages: Any = [{"role": "user", "content": "Write."}]
    with stack.client().chat.completions.create(
        model=f"{stack.model()}-instant", messages=messages, stream=True, **request
    ) as chunks:  # type: ignore[call-overload]
        for piece in (piece for chunk in chunks for choice in chunk.choices for piece in choice.delta.tool_calls or ()):
            if piece.index == len(found):
                found.append("")
            found[piece.index] += piece.function.arguments or ""
            if victim and len(found[0]) >= KILLED_AT_CHARACTER:
                stack.kill(victim)
                victim = ""
    assert not victim, "nobody was killed"
    return found
