"""A run that kills whoever takes it ends, and says why."""

import asyncio
import time

from msgspec.structs import replace

from schemas import names
from schemas.runs import LeaseTaken, ModelAsked
from services.coordinator.ownership import MAX_FRUITLESS_TERMS
from shared.clock import SystemClock
from shared.ledger.journal import Ledger
from tests.integration.coordinator.stage import Stage, new_run_id
from tests.unit.ledger.history import accepted


async def fruitless(ledger: Ledger, run_id: str, terms: int) -> None:
    """As many owners that died over a question."""
    last = (await ledger.accept(replace(accepted(run_id), time_unix_seconds=time.time()))).sequence
    for term in range(1, terms + 1):
        owner = f"owner-{term}"
        writer = ledger.writer(run_id, owner, term, last)
        await writer.append([LeaseTaken(owner=owner, term=term)])
        last = (await writer.append([ModelAsked(step=1, attempt=term, message_count=1)])).sequence


async def test_a_run_that_killed_all_its_owners_is_ended(stage: Stage) -> None:
    ledger = Ledger(stage.bus, SystemClock())
    await ledger.declare()
    run_id = new_run_id()
    await fruitless(ledger, run_id, MAX_FRUITLESS_TERMS)
    await stage.coordinator()
    summary = await stage.ended(run_id)
    assert summary.failure is not None
    assert (summary.status, summary.failure.code, summary.term) == ("failed", "run.poison", MAX_FRUITLESS_TERMS + 1)
    subjects = [names.event_accepted(run_id), names.event_terminal(run_id)]
    async with asyncio.timeout(20.0):
        while len(await stage.bus.read_last(names.STREAM_EVENTS, subjects)) < 2:  # noqa: ASYNC110 - the sweeper's
            await asyncio.sleep(0.1)
