"""Checks of how answers end: the finish reasons, whole and streamed, and stop strings."""

from services.cli.verify.judgement import NotOffered, require
from services.cli.verify.probe import Probe
from services.cli.verify.streams import question
from services.cli.verify.tools import forcing

LONG = "Count from 1 to 200 in words, separated by commas."
ROOMY_LIMIT = 1024
STOP_CHARACTERS = 6


async def stop(probe: Probe) -> None:
    """A model that cannot stop may say "length", but only when the tokens are used up."""
    reply = await probe.whole(probe.body("Say hello in one word.", limit=ROOMY_LIMIT))
    used_up = reply.finish_reason == "length" and reply.count("completion_tokens") == ROOMY_LIMIT
    told = f"finish_reason {reply.finish_reason!r} of an answer that had room"
    require(reply.finish_reason == "stop" or used_up, told, reply.exchange)


async def length(probe: Probe) -> None:
    reply = await probe.whole(probe.body(LONG, limit=4))
    told = f"finish_reason {reply.finish_reason!r} of an answer cut after 4 tokens"
    require(reply.finish_reason == "length", told, reply.exchange)


async def tool_calls(probe: Probe) -> None:
    _, reply = await forcing(probe)
    require(reply.finish_reason == "tool_calls", f"finish_reason {reply.finish_reason!r} of a call", reply.exchange)


async def streamed(probe: Probe) -> None:
    reply = await probe.streamed(probe.body(LONG, limit=4))
    told = f"the finish reasons of a stream cut after 4 tokens are {reply.finish_reasons}"
    require(reply.finish_reasons == ["length"], told, reply.exchange)


async def stop_string(probe: Probe) -> None:
    """A piece from the middle of an answer, given as a stop string, is not in the answer."""
    body = probe.body(question(5), limit=ROOMY_LIMIT)
    text = (await probe.whole(body)).content
    middle = text[len(text) // 2 :][:STOP_CHARACTERS]
    if not middle.strip():
        raise NotOffered("no text came to cut")
    reply = await probe.whole({**body, "stop": [middle]})
    require(middle not in reply.content, f"the answer holds its stop string {middle!r}", reply.exchange)
