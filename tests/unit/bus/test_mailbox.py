"""The buffer of a subscription: in order, bounded, and never silent about a loss."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bus.mailbox import MAX_PENDING_BYTES, Mailbox
from shared.errors import MoontideError, Unavailable
from tests import virtual_time


async def _nothing() -> None:
    pass


@given(st.lists(st.one_of(st.none(), st.binary(max_size=4)), max_size=40), st.integers(1, 8))
def test_what_is_read_is_a_prefix_of_what_came_and_a_loss_is_told(script: list[bytes | None], bound: int) -> None:
    """``None`` in the script is the reader taking one message."""

    async def scenario() -> None:
        mailbox, came, read = Mailbox(bound, _nothing), [], []
        ended = False
        for step in script:
            if step is not None:
                came.append(step)
                mailbox.put(step)
                continue
            try:
                data = await mailbox.next(0.1)
            except MoontideError:
                ended = True
                break
            if data is not None:
                read.append(data)
        while not ended:
            try:
                data = await mailbox.next(0.1)
            except MoontideError:
                ended = True
            else:
                if data is None:
                    break
                read.append(data)
        assert read == came[: len(read)]
        assert ended == (len(read) < len(came))

    virtual_time.run(scenario())


async def test_bytes_are_bounded_too() -> None:
    mailbox = Mailbox(1 << 20, _nothing)
    big = bytes(MAX_PENDING_BYTES // 4)
    for _ in range(5):
        mailbox.put(big)
    for _ in range(4):
        assert await mailbox.next(0.0) is big
    with pytest.raises(Unavailable):
        await mailbox.next(0.0)


async def test_a_reader_that_waits_is_woken_by_the_end() -> None:
    mailbox = Mailbox(4, _nothing)
    reading = asyncio.create_task(mailbox.next(10.0))
    await asyncio.sleep(0)
    mailbox.end(Unavailable("bus.closed", "the bus is closed"))
    with pytest.raises(Unavailable, match="closed"):
        await reading
