"""What the bus promises about what streams keep, on the fake and on a real nats-server."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.bus.fake import FakeBroker
from shared.bus.interface import Bus
from shared.errors import Busy, NotFound, Unavailable

OpenBus = Callable[[], AbstractAsyncContextManager[Bus]]


@pytest.fixture(params=["fake", "nats"])
def open_bus(request: pytest.FixtureRequest) -> OpenBus:
    if request.param == "nats":
        broker: Broker = request.getfixturevalue("broker")
        return lambda: connect(broker.config, "a")
    fake = FakeBroker(7)

    @asynccontextmanager
    async def open_fake() -> AsyncIterator[Bus]:
        yield fake.bus("a")

    return open_fake


@pytest.fixture
def word() -> str:
    """A name that no other test uses."""
    return f"t{secrets.token_hex(4)}"


async def appended(bus: Bus, subject: str, count: int, size: int = 1) -> list[int]:
    """Their sequences."""
    found: list[int] = []
    for number in range(count):
        data = b"%d" % number + bytes(size)
        last = found[-1] if found else 0
        sequence = await bus.append_at(subject, data, message_id=f"{subject}-{number}", expected_last_sequence=last)
        assert sequence is not None
        found.append(sequence)
    return found


async def filled(bus: Bus, subject: str, data: bytes) -> int:
    """How many messages fitted."""
    for number in range(60):
        try:
            await bus.append(subject, data, message_id=f"{number}", expected_last_sequence=number)
        except Busy:
            return number
    return 60


async def test_an_append_says_where_it_is_and_who_was_first(open_bus: OpenBus, word: str) -> None:
    async with open_bus() as bus:
        await bus.declare_journal(word, (f"{word}.*",), max_bytes=1 << 20)
        first = await bus.append_at(f"{word}.a", b"1", message_id="m1", expected_last_sequence=0)
        assert first == 1
        await bus.append(f"{word}.b", b"beside", message_id="m2")
        second = await bus.append_at(f"{word}.a", b"2", message_id="m3", expected_last_sequence=first)
        assert second == 3
        assert await bus.append_at(f"{word}.a", b"x", message_id="m4", expected_last_sequence=first) is None
        assert await bus.append_at(f"{word}.a", b"2", message_id="m3", expected_last_sequence=first) == second
        last = await bus.last_of(word, f"{word}.a")
        assert last is not None
        assert (last.data, last.sequence, last.message_id, last.subject) == (b"2", 3, "m3", f"{word}.a")
        assert abs(last.time_unix_seconds - time.time()) < 60.0
        assert await bus.last_of(word, f"{word}.c") is None


async def test_one_subject_is_read_in_order_behind_a_sequence(open_bus: OpenBus, word: str) -> None:
    async with open_bus() as bus:
        await bus.declare_journal(word, (f"{word}.*",), max_bytes=1 << 22)
        sequences: dict[str, list[int]] = {"a": [], "b": []}
        for number in range(40):
            for name, known in sequences.items():
                sequence = await bus.append_at(
                    f"{word}.{name}", b"%d" % number, message_id=f"{name}{number}", expected_last_sequence=None
                )
                known.append(sequence or 0)
        found, after = [], 0
        while batch := await bus.read_log(word, f"{word}.a", after_sequence=after, limit=16):
            assert len(batch) <= 16
            found += batch
            after = batch[-1].sequence
        assert [message.sequence for message in found] == sequences["a"]
        assert [message.data for message in found] == [b"%d" % number for number in range(40)]
        assert {message.subject for message in found} == {f"{word}.a"}
        assert found[3].message_id == "a3"
        both = await bus.read_log(word, f"{word}.*", after_sequence=10, limit=1000)
        assert [message.sequence for message in both] == list(range(11, 81))
        assert await bus.read_log(word, f"{word}.none") == []
        assert await bus.read_log(word, f"{word}.a", after_sequence=10_000) == []


async def test_large_messages_come_in_several_batches(open_bus: OpenBus, word: str) -> None:
    async with open_bus() as bus:
        await bus.declare_journal(word, (f"{word}.*",), max_bytes=1 << 25)
        sequences = await appended(bus, f"{word}.a", 20, size=600_000)
        found, after = [], 0
        while batch := await bus.read_log(word, f"{word}.a", after_sequence=after):
            found += [message.sequence for message in batch]
            after = found[-1]
        assert found == sequences


async def test_subjects_and_their_last_messages_are_listed(open_bus: OpenBus, word: str) -> None:
    async with open_bus() as bus:
        await bus.declare_journal(word, (f"{word}.>",), max_bytes=1 << 22)
        for name in range(300):
            await bus.append(f"{word}.x.{name}", b"%d" % name, message_id=f"{name}")
        await bus.append(f"{word}.x.7", b"again", message_id="again")
        await bus.append(f"{word}.y.1", b"beside", message_id="beside")
        counts = await bus.subjects_of(word, f"{word}.x.*")
        assert len(counts) == 300
        assert (counts[f"{word}.x.7"], counts[f"{word}.x.8"]) == (2, 1)
        last = await bus.read_last(word, [*counts, f"{word}.x.missing"])
        assert {message.subject: message.data for message in last} == {
            f"{word}.x.{name}": b"again" if name == 7 else b"%d" % name for name in range(300)
        }
        assert await bus.subjects_of(word, f"{word}.z.*") == {}
        assert await bus.read_last(word, []) == []


async def test_a_full_journal_refuses_and_keeps_what_it_has(open_bus: OpenBus, word: str) -> None:
    async with open_bus() as bus:
        await bus.declare_journal(word, (f"{word}.*",), max_bytes=20_000)
        kept = await filled(bus, f"{word}.a", bytes(1000))
        assert 10 <= kept <= 20
        assert await bus.first_sequence(word) == 1
        with pytest.raises(Unavailable):
            await bus.remove(word, 1)
        assert len(await bus.read_log(word, f"{word}.a")) == kept
        await bus.purge(word, f"{word}.a")
        assert await bus.read_log(word, f"{word}.a") == []
        assert await bus.append_at(f"{word}.a", b"", message_id="new", expected_last_sequence=0) == kept + 1


async def test_one_subject_may_be_full_while_others_are_not(open_bus: OpenBus, word: str) -> None:
    async with open_bus() as bus:
        await bus.declare_journal(word, (f"{word}.*",), max_bytes=1 << 20, max_per_subject=3)
        assert await filled(bus, f"{word}.a", b"") == 3
        assert await bus.append(f"{word}.b", b"", message_id="b")
        assert len(await bus.read_log(word, f"{word}.a")) == 3


async def test_the_latest_of_each_subject_is_kept_for_a_while(open_bus: OpenBus, word: str) -> None:
    async with open_bus() as bus:
        await bus.declare_latest(word, (f"{word}.*",), max_bytes=1 << 20, keep_seconds=1.0)
        await bus.publish(f"{word}.a", b"1")
        old = await bus.append_at(f"{word}.a", b"2", message_id="2", expected_last_sequence=None)
        new = await bus.append_at(f"{word}.a", b"3", message_id="3", expected_last_sequence=None)
        assert old is not None
        assert new is not None
        assert [message.data for message in await bus.read_log(word, f"{word}.*")] == [b"3"]
        assert not await bus.remove(word, old)
        assert await bus.last_of(word, f"{word}.a") is not None
        assert await bus.remove(word, new)
        assert await bus.last_of(word, f"{word}.a") is None
        await bus.append(f"{word}.b", b"1", message_id="b")
        async with asyncio.timeout(10.0):
            while await bus.last_of(word, f"{word}.b") is not None:  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(0.05)


async def test_a_stream_that_is_not_there_is_told(open_bus: OpenBus, word: str) -> None:
    async with open_bus() as bus:
        for asked in (bus.last_of(word, word), bus.subjects_of(word, word), bus.first_sequence(word)):
            with pytest.raises(NotFound):
                await asked
        for asked in (bus.read_log(word, word), bus.read_last(word, [word])):
            with pytest.raises(Unavailable) as error:
                await asked
            assert error.value.code == "bus.no_stream"
