"""A run of 1,000 steps: its ledger stays small, grows in a line, and is replayed quickly."""

import secrets
import time

from schemas import codec
from schemas.blobs import BlobRef
from schemas.chat import Usage
from schemas.runs import LeaseTaken, ModelAnswered, ModelAsked, RunEvent, ToolAnswered, ToolAsked
from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.clock import SystemClock
from shared.ledger.journal import Ledger
from shared.ledger.state import replay
from tests.unit.ledger.history import History, accepted

STEPS = 1000
REPLAY_SECONDS = 2.0
MAX_BYTES = 50 * 1024 * 1024


def ref() -> BlobRef:
    return BlobRef(key=f"sha256/{secrets.token_hex(32)}", size_bytes=2000)


def step_of(run_id: str, step: int) -> list[list[RunEvent]]:
    """Two tools each, as a coordinator appends it."""
    calls = [f"{run_id}-{step}-{index}" for index in range(2)]
    usage = Usage(prompt_tokens=200_000, completion_tokens=200, cached_tokens=199_000)
    answered = ModelAnswered(step=step, message=ref(), usage=usage, finish_reason="tool_calls", tool_calls=2)
    asked = [
        ToolAsked(step=step, call_id=call_id, tool_call_id=call_id[-8:], tool="python", arguments=ref())
        for call_id in calls
    ]
    results = [
        [ToolAnswered(step=step, call_id=call_id, message=ref(), workspace=ref(), session=ref())] for call_id in calls
    ]
    return [[ModelAsked(step=step, message_count=step * 3 - 2)], [answered, *asked], *results]


async def test_a_thousand_steps_are_replayed_in_two_seconds_and_grow_in_a_line(broker: Broker) -> None:
    run_id = f"run-{secrets.token_hex(13)}"
    async with connect(broker.config, "owner") as bus:
        ledger = Ledger(bus, SystemClock())
        await ledger.declare(partition_bytes=1 << 26)
        first = await ledger.accept(accepted(run_id))
        writer = ledger.writer(run_id, "owner", 1, first.sequence)
        await writer.append([LeaseTaken(owner="owner", term=1)])
        sizes: list[int] = []
        for step in range(1, STEPS + 1):
            entries = [await writer.append(events) for events in step_of(run_id, step)]
            sizes.append(sum(len(codec.encode(numbered.entry)) for numbered in entries))
        started, worked = time.perf_counter(), time.process_time()
        state = await ledger.state(run_id)
        seconds, work = time.perf_counter() - started, time.process_time() - worked
    print(
        f"replayed in {seconds:.2f} s, {work:.2f} s of work, {sum(sizes)} bytes, state {len(codec.encode(state))} bytes"
    )
    assert (state.step, len(state.conversation.turns)) == (STEPS, 1 + 3 * STEPS)
    assert state.usage.prompt_tokens == 200_000 * STEPS
    assert work < REPLAY_SECONDS  # and not the clock's, which also counts what other processes take
    assert sum(sizes) < MAX_BYTES
    assert sum(sizes[STEPS // 2 :]) < 1.05 * sum(sizes[: STEPS // 2])
    assert len(codec.encode(state)) < MAX_BYTES


def test_replay_takes_time_linear_in_entries() -> None:
    """Eight times the steps in at most sixteen times the time."""

    def seconds(steps: int) -> float:
        history = History().take()
        for step in range(1, steps + 1):
            history.step(step, calls=2)
        best = 1e9
        for _ in range(3):
            started = time.perf_counter()
            replay(history.entries)
            best = min(best, time.perf_counter() - started)
        return best

    assert seconds(4000) < 16 * seconds(500)
