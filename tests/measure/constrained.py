"""``python -m tests.measure.constrained``: with random weights every call names a tool and fits its schema.

A real stack with the tiny checkpoint is asked under each schema for required calls, a call by name, and formatted
answers, in instant and in thinking mode: 64 at once, and a half of it one at a time. Each request is made unstreamed
and streamed, which must agree. Nothing is asked twice. What came is judged by ``jsonschema`` (Draft 2020-12).
``--break`` spoils one character of what came, to see that the judge sees it. One JSON line last; exit code 1 unless
everything is valid.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import openai

from tests.e2e.stack import Stack, running
from tests.unit.language.grammar.schemas import Schema, schemas

MAX_TOKENS = 2048
BUDGET_TOKENS = 256
FORMS = ("required", "named", "json_schema", "json_schema_lax", "json_object")
BREAKS = ("unclosed", "another-tool")
DECOY = {"type": "function", "function": {"name": "do_nothing", "parameters": {"type": "object", "properties": {}}}}


@dataclass(frozen=True)
class Case:
    name: str
    schema: Schema
    form: str
    thinking: bool
    seed: int

    def body(self, model: str) -> dict[str, Any]:
        common = {
            "model": f"{model}-{'thinking' if self.thinking else 'instant'}",
            "messages": [{"role": "user", "content": f"Do what {self.name!r} says."}],
            "max_tokens": MAX_TOKENS,
            "seed": self.seed,
            **self._form(),
        }
        budget = {"thinking": {"type": "enabled", "budget_tokens": BUDGET_TOKENS}}
        return {**common, "extra_body": budget} if self.thinking else common

    def _form(self) -> dict[str, Any]:
        if self.form == "json_object":
            return {"response_format": {"type": "json_object"}}
        if self.form.startswith("json_schema"):
            told = {"name": "it", "schema": self.schema, "strict": self.form == "json_schema"}
            return {"response_format": {"type": "json_schema", "json_schema": told}}
        tool = {"type": "function", "function": {"name": "get_it", "parameters": self.schema}}
        named = {"type": "function", "function": {"name": "get_it"}}
        return {"tools": [DECOY, tool], "tool_choice": "required" if self.form == "required" else named}


@dataclass
class Came:
    """One answer, whole or put together from its pieces."""

    content: str = ""
    reasoning: str = ""
    finish: str = ""
    reasoning_tokens: int | None = None
    names: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)


def cases(count: int, seed: int) -> list[Case]:
    """Every schema once in each mode; the form changes from schema to schema, and with the seed."""
    found = schemas()[:count] if count else schemas()
    return [
        Case(name, schema, FORMS[(number + 2 * thinking + seed) % len(FORMS)], thinking, 1000 * seed + number)
        for number, (name, schema) in enumerate(found)
        for thinking in (False, True)
    ]


async def whole(client: openai.AsyncOpenAI, body: dict[str, Any]) -> Came:
    reply = await client.chat.completions.create(**body)
    (choice,) = reply.choices
    calls = choice.message.tool_calls or []
    details = reply.usage and reply.usage.completion_tokens_details
    return Came(
        choice.message.content or "",
        getattr(choice.message, "reasoning_content", "") or "",
        choice.finish_reason,
        details.reasoning_tokens if details else None,
        [call.function.name for call in calls],
        [call.function.arguments for call in calls],
    )


async def streamed(client: openai.AsyncOpenAI, body: dict[str, Any]) -> Came:
    came = Came()
    async for chunk in await client.chat.completions.create(
        stream=True, stream_options={"include_usage": True}, **body
    ):
        if chunk.usage and chunk.usage.completion_tokens_details:
            came.reasoning_tokens = chunk.usage.completion_tokens_details.reasoning_tokens
        for choice in chunk.choices:
            came.content += choice.delta.content or ""
            came.reasoning += getattr(choice.delta, "reasoning_content", "") or ""
            came.finish = choice.finish_reason or came.finish
            for piece in choice.delta.tool_calls or ():
                _add(came, piece)
    return came


def _add(came: Came, piece: Any) -> None:
    if piece.index == len(came.names):
        came.names.append("")
        came.arguments.append("")
    came.names[piece.index] += piece.function.name or ""
    came.arguments[piece.index] += piece.function.arguments or ""


def problem(case: Case, came: Came) -> str:
    """What is wrong with an answer; empty when nothing is."""
    if came.reasoning_tokens is not None and came.reasoning_tokens > BUDGET_TOKENS:
        return f"{came.reasoning_tokens} tokens of reasoning"
    if not case.thinking and came.reasoning:
        return "reasoning in instant mode"
    if case.form in ("required", "named"):
        return _problem_of_calls(case, came)
    if came.finish != "stop":
        return f"finish_reason {came.finish}"
    return _problem_of_text(came.content, {"type": "object"} if case.form == "json_object" else case.schema)


def _problem_of_calls(case: Case, came: Came) -> str:
    if came.finish != "tool_calls" or not came.names:
        return f"finish_reason {came.finish}, {len(came.names)} calls"
    parameters = {"do_nothing": DECOY["function"]["parameters"], "get_it": case.schema}  # type: ignore[index]
    for name, arguments in zip(came.names, came.arguments, strict=True):
        if name not in parameters or (case.form == "named" and name != "get_it"):
            return f"{name!r} is called"
        if found := _problem_of_text(arguments, parameters[name]):
            return found
    return ""


def _problem_of_text(text: str, schema: Schema) -> str:
    try:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    except ValueError as error:
        return f"no JSON: {error}"
    except jsonschema.ValidationError as error:
        return f"not valid: {error.message[:200]}"
    return ""


def spoiled(came: Came, sabotage: str) -> Came:
    if sabotage == "unclosed":
        came.arguments = [text[:-1] for text in came.arguments]
        came.content = came.content[:-1]
    if sabotage == "another-tool":
        came.names = [f"{name}_" for name in came.names]
    return came


async def judge(client: openai.AsyncOpenAI, model: str, case: Case, sabotage: str) -> str:
    try:
        said = spoiled(await whole(client, case.body(model)), sabotage)
        told = await streamed(client, case.body(model))
    except openai.APIError as error:
        return f"{type(error).__name__}: {error}"
    found = problem(case, said)
    return found or ("" if sabotage or said == told else "streamed otherwise")


async def judged(url: str, model: str, asked: Sequence[Case], at_once: int, sabotage: str = "") -> list[str]:
    """A problem for each case, empty where there is none."""
    room = asyncio.Semaphore(at_once)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600) as client:

        async def one(number: int, case: Case) -> str:
            async with room:
                found = await judge(client, model, case, sabotage)
            if number % 50 == 0 or found:
                print(f"{at_once} at once: {number}/{len(asked)} {case.name} {found}", file=sys.stderr)
            return found

        return await asyncio.gather(*(one(number, case) for number, case in enumerate(asked)))


def measure(stack: Stack, asked: Sequence[Case], levels: Sequence[int], sabotage: str) -> dict[str, Any]:
    rows, failures = [], []
    for level in levels:
        started = time.monotonic()
        chosen = [case for number, case in enumerate(asked) if level > 1 or number % 4 in (0, 3)]  # alternating modes
        found = asyncio.run(judged(stack.url, stack.model(), chosen, level, sabotage))
        judged_cases = zip(chosen, found, strict=True)
        failures += [[level, case.name, case.form, case.thinking, what] for case, what in judged_cases if what]
        seconds = round(time.monotonic() - started, 1)
        rows.append(
            {"at_once": level, "answers": 2 * len(chosen), "invalid": sum(map(bool, found)), "seconds": seconds}
        )
    forms = Counter(f"{case.form}, {'thinking' if case.thinking else 'instant'}" for case in asked)
    return {"rows": rows, "cases": dict(forms), "first_failures": failures[:5], "ok": not failures}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=0, help="schemas; 0: all")
    parser.add_argument("--at-once", type=int, nargs="+", default=[64, 1])
    parser.add_argument("--break", dest="sabotage", default="", choices=["", *BREAKS])
    options = parser.parse_args()
    asked = cases(options.cases, options.seed)
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as stack:
        result = measure(stack, asked, options.at_once, options.sabotage)
    print(json.dumps({"seed": options.seed, "break": options.sabotage or None, **result}))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
