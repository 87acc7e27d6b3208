"""Checks of ``tool_choice``: none, auto, required, and a tool by name. What is in the arguments is judged elsewhere."""

from services.cli.verify.judgement import require
from services.cli.verify.probe import Probe
from services.cli.verify.reply import Reply
from services.cli.verify.tools import CALL_LIMIT, SAMPLE, Choice, named, tool

NAMES = ("get_weather", "get_time", "book_table")
GREETING = "Hello! Tell me who you are, in one sentence."


async def none(probe: Probe) -> None:
    reply = await _ask(probe, "Please call the tool get_weather for Kyoto.", "none")
    require(not reply.calls, f"{reply.calls and reply.calls[0].name!r} is called all the same", reply.exchange)


async def auto(probe: Probe) -> dict[str, str] | None:
    """Of a model that says that its weights are random only the form is judged: it does nothing that it is asked to."""
    asked = await _ask(probe, "Please call the tool get_weather for Kyoto.", "auto")
    called = bool(asked.calls) or probe.target.random_weights
    require(called, "asked to call a tool, no call came", asked.exchange)
    strange = [call.name for call in asked.calls if call.name not in NAMES]
    require(not strange, f"{strange} is called, which is not offered", asked.exchange)
    greeted = await _ask(probe, GREETING, "auto")
    require(not greeted.calls, "a tool is called where a greeting was asked for", greeted.exchange)
    return None if asked.calls else {"judged": "form only, the weights are random"}


async def required(probe: Probe) -> None:
    reply = await _ask(probe, GREETING, "required")
    require(bool(reply.calls), "no call came", reply.exchange)


async def by_name(probe: Probe) -> None:
    for name in NAMES[1:]:
        reply = await _ask(probe, GREETING, named(name))
        called = {call.name for call in reply.calls}
        require(called == {name}, f"{name!r} was to be called, {sorted(called) or 'nothing'} was", reply.exchange)


async def _ask(probe: Probe, asked: str, choice: Choice) -> Reply:
    offered = [tool(name, SAMPLE.schema) for name in NAMES]
    return await probe.whole(probe.body(asked, limit=CALL_LIMIT, tools=offered, tool_choice=choice))
