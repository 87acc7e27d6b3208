"""Checks of answers in a wished format: any JSON object, or JSON under a schema."""

from services.cli.verify.exchange import parsed
from services.cli.verify.judgement import Refused, require, shown
from services.cli.verify.probe import Probe
from services.cli.verify.reply import Reply
from services.cli.verify.schemas import Case, cases
from services.cli.verify.tools import problem

ANSWER_LIMIT = 2048
EVERY = 12
AT_ONCE = 4


async def json_object(probe: Probe) -> None:
    asked = "Answer with a JSON object that holds the keys city and country for Kyoto."
    reply = await probe.whole(probe.body(asked, limit=ANSWER_LIMIT, response_format={"type": "json_object"}))
    value = _value(reply)
    require(isinstance(value, dict), f"the answer is {type(value).__name__}, not an object", reply.exchange)


async def json_schema(probe: Probe) -> dict[str, int]:
    """The first schema says whether it is offered at all; a refusal of a later one is a defect."""
    chosen = cases()[::EVERY]
    await _judge(probe, chosen[0])

    async def judge(case: Case) -> None:
        try:
            await _judge(probe, case)
        except Refused as refused:
            require(False, f"{case.name}: {refused.reason}", *refused.exchanges)

    await probe.each(judge, chosen[1:], AT_ONCE)
    return {"schemas": len(chosen)}


async def _judge(probe: Probe, case: Case) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": case.schema, "strict": True}}
    asked = "Invent an example that fits the schema. Answer in JSON."
    reply = await probe.whole(probe.body(asked, limit=ANSWER_LIMIT, response_format=wanted))
    error = problem(_value(reply), case.schema)
    require(error is None, f"{case.name}: {error}", reply.exchange)


def _value(reply: Reply) -> object:
    value = parsed(reply.content.encode())
    is_json = value is not None or reply.content.strip() == "null"
    require(is_json, f"the answer is no JSON: {shown(reply.content) or 'it is empty'}", reply.exchange)
    return value
