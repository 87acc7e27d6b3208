"""Checks of tool calls: arguments under many schemas, their shape, streamed calls, and the turn after a call."""

from typing import Any

import jsonschema

from services.cli.verify.judgement import Defect, Refused, Verdict, require, shown
from services.cli.verify.probe import Probe
from services.cli.verify.reply import Call, Reply
from services.cli.verify.schemas import Case, Schema, cases

CALL_LIMIT = 2048
AT_ONCE = 8
STREAMED_EVERY = 10
SAMPLE = Case("weather", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
Choice = str | dict[str, object]


def tool(name: str, schema: Schema) -> dict[str, object]:
    description = "Does what it is named after."
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def named(name: str) -> Choice:
    return {"type": "function", "function": {"name": name}}


def request(probe: Probe, name: str, schema: Schema, choice: Choice) -> dict[str, object]:
    """A body that asks for one call of one tool; ``choice``: "named" names it."""
    asked = f"Please call the tool {name} once. Invent arguments that fit its schema."
    chosen = named(name) if choice == "named" else choice
    return probe.body(asked, limit=CALL_LIMIT, tools=[tool(name, schema)], tool_choice=chosen)


async def forcing(probe: Probe) -> tuple[Choice, Reply]:
    """The strongest ``tool_choice`` that yields a call here, and the reply with it, so that one broken choice does not
    hide everything else. Raises Refused when tools are refused, Defect when no call ever comes."""
    verdicts: list[Verdict] = []
    for choice in ("required", "named", "auto"):
        try:
            reply = await probe.whole(request(probe, "get_weather", SAMPLE.schema, choice))
        except Verdict as verdict:
            verdicts.append(verdict)
            continue
        if reply.calls:
            return choice, reply
        verdicts.append(Defect("asked for a call in every way, no call came", reply.exchange))
    raise next((verdict for verdict in reversed(verdicts) if not isinstance(verdict, Refused)), verdicts[-1])


async def schemas(probe: Probe) -> dict[str, int]:
    """All are tried; the reason counts and names those that fail."""
    choice, _ = await forcing(probe)
    numbered = list(enumerate(cases()))

    async def judge(item: tuple[int, Case]) -> Verdict | None:
        number, case = item
        name = f"tool_{number:03}"
        try:
            reply = await probe.whole(request(probe, name, case.schema, choice))
            fits(reply, name, case.schema)
        except Verdict as verdict:
            return type(verdict)(f"{case.name}: {verdict.reason}", *verdict.exchanges)
        return None

    verdicts = await probe.each(judge, numbered, AT_ONCE)
    failed = [verdict for verdict in verdicts if verdict is not None]
    if failed:
        reasons = "; ".join(verdict.reason for verdict in failed[:5])
        shown_exchanges = [exchange for verdict in failed for exchange in verdict.exchanges]
        raise Defect(f"{len(failed)} of {len(numbered)} schemas: {reasons}", *shown_exchanges)
    return {"schemas": len(numbered)}


def fits(reply: Reply, name: str, schema: Schema) -> None:
    """Raises Defect unless the tool is called with arguments that are valid under its schema."""
    require(bool(reply.calls), f"no call came (finish_reason {reply.finish_reason!r})", reply.exchange)
    for call in reply.calls:
        require(call.name == name, f"{call.name!r} is called, not {name!r}", reply.exchange)
        error = problem(call.value(), schema)
        require(error is None, f"{error}: {shown(call.arguments)}", reply.exchange)


def problem(value: Any, schema: Schema) -> str | None:
    """What is wrong with a value under one of our schemas, or None."""
    error = next(jsonschema.Draft202012Validator(schema).iter_errors(value), None)
    return None if error is None else f"{shown(error.message)} (at {error.json_path})"


async def shape(probe: Probe) -> None:
    _, reply = await forcing(probe)
    seen = [call.id for call in reply.calls]
    for call in reply.calls:
        require(isinstance(call.id, str) and call.id != "", "a call has no id", reply.exchange)
        require(call.type == "function", f"a call has type {call.type!r}, not 'function'", reply.exchange)
        require(isinstance(call.arguments, str), "arguments are no JSON text but a value", reply.exchange)
    require(len(set(seen)) == len(seen), "two calls have the same id", reply.exchange)


async def streamed(probe: Probe) -> dict[str, int]:
    """Streamed calls have the same names, and the same arguments where unstreamed ones are repeatable."""
    choice, _ = await forcing(probe)
    chosen = [(f"tool_{number:03}", case) for number, case in enumerate(cases())][::STREAMED_EVERY]

    async def compare(item: tuple[str, Case]) -> bool:
        name, case = item
        body = request(probe, name, case.schema, choice)
        stream, reply = await probe.streamed(body), await probe.whole(body)
        if _said(stream.calls) == _said(reply.calls):
            return True
        again = await probe.whole(body)
        told = f"{case.name}: streamed {shown(_said(stream.calls))}, unstreamed {shown(_said(reply.calls))}"
        repeatable = _said(again.calls) == _said(reply.calls)
        same_names = [call.name for call in stream.calls] == [call.name for call in reply.calls]
        readable = all(call.value() is not None for call in stream.calls)
        require(not repeatable and same_names and readable, told, stream.exchange, reply.exchange)
        return False

    equal = await probe.each(compare, chosen, AT_ONCE)
    return {"compared": len(equal), "equal": sum(equal)}


def _said(calls: list[Call]) -> list[tuple[str, object]]:
    """Arguments by value where they are JSON: spaces between tokens of JSON may differ."""
    return [(call.name, call.value() if call.value() is not None else call.arguments) for call in calls]


async def turn(probe: Probe) -> None:
    """A call and its result in the conversation are understood, and words come back."""
    function = {"name": "get_weather", "arguments": '{"city":"Kyoto"}'}
    call = {"id": "functions.get_weather:0", "type": "function", "function": function}
    messages = [
        {"role": "user", "content": "How is the weather in Kyoto?"},
        {"role": "assistant", "content": "", "reasoning_content": "I look it up.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": '{"celsius": 21, "sky": "clear"}'},
    ]
    reply = await probe.whole(probe.body(messages, limit=512, tools=[tool("get_weather", SAMPLE.schema)]))
    require(bool(reply.content or reply.reasoning or reply.calls), "nothing is said after a result", reply.exchange)
