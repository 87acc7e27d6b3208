"""Checks of streams: the protocol, and that a stream says what the unstreamed answer says, also under load."""

from services.cli.verify.exchange import Exchange, parsed
from services.cli.verify.judgement import NotOffered, Refused, require, shown
from services.cli.verify.probe import Probe
from services.cli.verify.reply import DONE, Reply

ASKED = "Name {number} animals that begin with the letter {letter}, separated by commas."


def question(number: int) -> str:
    """Different for every number below 26 * 97."""
    return ASKED.format(number=number % 97 + 3, letter=chr(ord("A") + number % 26))


async def protocol(probe: Probe) -> None:
    reply = await probe.streamed(probe.body(question(0)))
    exchange = reply.exchange
    require(exchange.content_type == "text/event-stream", f"content type {exchange.content_type!r}", exchange)
    require(exchange.events[-1].data == DONE, "the last event is not [DONE]", exchange)
    chunks = [parsed(event.data) for event in exchange.events[:-1]]
    for number, chunk in enumerate(chunks):
        told = shown(exchange.events[number].data)
        require(isinstance(chunk, dict), f"event {number} is no JSON object: {told}", exchange)
        kind = chunk.get("object")
        require(kind == "chat.completion.chunk", f"event {number} has object {kind!r}", exchange)
        require(isinstance(chunk.get("choices"), list), f"event {number} has no list of choices", exchange)
    ids = {str(chunk.get("id")) for chunk in chunks}
    require(len(ids) == 1, f"chunks of one answer have {len(ids)} ids", exchange)


async def repeatable(probe: Probe) -> None:
    _must_be_greedy(probe)
    body = probe.body(question(1))
    first, second = await probe.whole(body), await probe.whole(body)
    told = f"the same question at temperature 0: {shown(first.content)!r}, then {shown(second.content)!r}"
    require(first.words == second.words, told, first.exchange, second.exchange)


async def equal(probe: Probe) -> dict[str, dict[str, int]]:
    """At each concurrency as many different questions, streamed all at once, then unstreamed all at once. Where an
    unstreamed answer does not repeat itself, nothing follows from a difference."""
    _must_be_greedy(probe)
    measured: dict[str, dict[str, int]] = {}
    for level in probe.target.concurrency:
        measured[str(level)] = await _level(probe, level)
    unclear = sum(counts["unrepeatable"] for counts in measured.values())
    compared = sum(counts["equal"] for counts in measured.values())
    if not compared:
        raise NotOffered(f"{unclear} answers are not repeatable, so streams cannot be compared")
    return measured


async def _level(probe: Probe, level: int) -> dict[str, int]:
    bodies = [probe.body(question(number)) for number in range(level)]
    try:
        streams = await probe.each(lambda body: probe.streamed(body, at_once=level), bodies, level)
        wholes = await probe.each(lambda body: probe.whole(body, at_once=level), bodies, level)
    except Refused as refused:
        raise Refused(f"at concurrency {level}: {refused.reason}", *refused.exchanges) from refused
    pairs = list(zip(bodies, streams, wholes, strict=True))
    different = [(body, stream, whole) for body, stream, whole in pairs if stream.words != whole.words]
    broken = [(stream, whole) for body, stream, whole in different if await _repeats(probe, body, whole)]
    told = f"at concurrency {level}: {len(broken)} of {level} streams differ from the unstreamed answer"
    if broken:
        stream, whole = broken[0]
        require(False, f"{told}; {_difference(stream, whole)}", *_exchanges(stream, whole))
    return {"equal": level - len(different), "unrepeatable": len(different)}


async def _repeats(probe: Probe, body: dict[str, object], reply: Reply) -> bool:
    return (await probe.whole(body)).words == reply.words


def _difference(stream: Reply, whole: Reply) -> str:
    return f"streamed {shown(stream.words)}, unstreamed {shown(whole.words)}"


def _exchanges(stream: Reply, whole: Reply) -> tuple[Exchange, Exchange]:
    return stream.exchange, whole.exchange


def _must_be_greedy(probe: Probe) -> None:
    if probe.dialect.sampling.get("temperature") != 0:
        raise NotOffered("temperature 0 is refused, so answers cannot be compared")
