"""Accepted ids end in exactly one terminal record, and their holder says which ones it still holds."""

import asyncio
from collections import Counter

import pytest

from schemas import codec, names
from schemas.events import CloudEvent, HolderAnswered, HolderQuery, RequestData
from shared.bus.fake import FakeBroker
from shared.clock import SystemClock
from shared.errors import MoontideError, Unavailable
from shared.request_events import RequestEvents


class FastClock(SystemClock):
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def events_of(broker: FakeBroker) -> tuple[RequestEvents, str]:
    bus = broker.bus("gateway")
    events = RequestEvents(bus, FastClock(), "gateway")
    await events.declare(1 << 20, 600.0)
    return events, bus.instance


def recorded(broker: FakeBroker) -> list[str]:
    """What was written, without the common part."""
    known = [codec.decode_json(stored.data, CloudEvent) for stored in broker.streams[names.STREAM_EVENTS].messages]
    return [f"{event.subject} {event.type.rsplit('.', 1)[-1]}" for event in known]


def data_of(request_id: str, holder: str) -> RequestData:
    return RequestData(request_id=request_id, holder=holder, kind="chat")


async def test_one_of_several_writers_ends_an_id() -> None:
    broker = FakeBroker(1)
    first, holder = await events_of(broker)
    second, _ = await events_of(broker)
    await first.accept(data_of("r1", holder))
    await second.record_accepted(data_of("r1", holder))
    won = await asyncio.gather(
        first.record_terminal("finished", data_of("r1", holder)),
        second.record_terminal("failed", data_of("r1", holder)),
    )
    assert sorted(won) == [False, True]
    assert Counter(line.split()[0] for line in recorded(broker)) == {"r1": 2}


async def test_a_holder_says_what_it_holds_until_the_record_is_written() -> None:
    broker = FakeBroker(1)
    events, holder = await events_of(broker)
    asking = broker.bus("sweeper")

    async def held(*request_ids: str) -> set[str]:
        query = HolderQuery(request_ids=request_ids)
        reply = await asking.request(names.holder(holder), codec.encode(query), 2.0)
        return set(codec.decode(reply, HolderAnswered).held)

    async with events.answering():
        for request_id in ("r1", "r2"):
            await events.accept(data_of(request_id, holder))
        assert await held("r1", "r2", "r3") == {"r1", "r2"}
        events.end("finished", data_of("r1", holder))
        await events.settle()
        assert await held("r1", "r2", "r3") == {"r2"}
    with pytest.raises(Unavailable) as nobody:
        await held("r2")
    assert nobody.value.code == "bus.no_responder"


async def test_an_id_whose_acceptance_is_unknown_has_both_records_or_none() -> None:
    """A terminal record without an accepted event would be a violation, and so would the reverse."""
    for seed in range(40):
        broker = FakeBroker(seed)
        events, holder = await events_of(broker)
        broker.lose_appends = 0.4
        data = data_of("r1", holder)
        try:
            await events.accept(data)
        except MoontideError:
            events.end("failed", data)
        else:
            events.end("finished", data)
        await events.settle()
        lines = recorded(broker)
        assert lines in ([], ["r1 accepted"]) or (len(lines) == 2 and lines[0] == "r1 accepted"), (seed, lines)
        async with events.answering():
            query = codec.encode(HolderQuery(request_ids=("r1",)))
            reply = await broker.bus("sweeper").request(names.holder(holder), query, 2.0)
        assert codec.decode(reply, HolderAnswered).held == ()  # a record that is missing is the sweeper's
