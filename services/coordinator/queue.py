"""The work queue that coordinators read: wake-ups, each saying that somebody should take care of a run.

A wake-up is acknowledged when the run's lease is in its ledger: from then on lease and ledger own the run. One that is
refused, since this process is full, goes to another process; that counts as a delivery, so deliveries say nothing here.
"""

import secrets

from schemas import names
from schemas.codec import encode
from schemas.runs import RunWake
from shared.bus.interface import Bus, WorkQueue

RUNS_QUEUE = WorkQueue(
    stream=names.STREAM_RUNS, subjects=(names.RUNS_ALL,), durable=names.DURABLE_COORDINATOR, max_attempts=1_000_000_000
)


async def wake(bus: Bus, run_id: str, message_id: str = "") -> None:
    """Durable when this returns; the same ``message_id`` within two minutes is one wake-up. Raises Busy when full."""
    known = message_id or f"wake-{run_id}-{secrets.token_hex(6)}"
    await bus.enqueue(names.run_wake(run_id), encode(RunWake(run_id=run_id)), message_id=known)
