"""Summaries of runs, read from their ledgers and kept while they are asked for.

Input: run ids. Output: ``RunSummary``, current at the time of asking. A run that ended never changes: its summary is
kept as a record too, so that nobody replays it again. One that goes on is caught up with, entry by entry. It must not
know who asks.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar
from weakref import WeakValueDictionary

import msgspec

from schemas.codec import decode, encode
from schemas.runs import RunAccepted, RunSummary
from shared.blobs.store import BlobStore
from shared.errors import MoontideError, NotFound
from shared.ledger.journal import Ledger
from shared.ledger.machine import ENDED
from shared.ledger.state import RunState

log = logging.getLogger("coordinator")

V = TypeVar("V")
RECORDS = "run-summaries"
MAX_TURNS = 300_000
"""Of the conversations of all states that are kept: about 100 MB."""
STATE_TURNS = 50
"""What a state weighs beside its conversation."""
MAX_SUMMARIES = 10_000
MAX_TENANTS = 200_000
TENANTS_AT_ONCE = 32


class RunBook:
    def __init__(self, ledger: Ledger, blobs: BlobStore) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._states: OrderedDict[str, RunState] = OrderedDict()
        self._turns = 0
        self._ended: OrderedDict[str, RunSummary] = OrderedDict()
        self._tenants: OrderedDict[str, str] = OrderedDict()
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def summary(self, run_id: str, tenant: str) -> RunSummary:
        """Raises NotFound (``run.not_found``): for a run of another tenant just as for none."""
        if await self.tenant(run_id) != tenant:
            raise NotFound("run.not_found", f"there is no run {run_id}", param="run_id")
        if (known := self._ended.get(run_id)) is not None:
            return known
        lock = self._reading.setdefault(run_id, asyncio.Lock())
        async with lock:
            kept = await self._record(run_id)
            return kept if kept is not None else await self._read(run_id)

    async def tenant(self, run_id: str) -> str:
        """Raises NotFound."""
        if run_id not in self._tenants:
            accepted = (await self._ledger.first(run_id)).entry.events[0]
            assert isinstance(accepted, RunAccepted), "a ledger begins with the acceptance of its run"
            _keep(self._tenants, run_id, accepted.context.principal.tenant, MAX_TENANTS)
        return self._tenants[run_id]

    async def of_tenant(self, run_ids: Sequence[str], tenant: str) -> AsyncIterator[str]:
        """Those that belong to a tenant, in the same order."""
        for start in range(0, len(run_ids), TENANTS_AT_ONCE):
            some = run_ids[start : start + TENANTS_AT_ONCE]
            tenants = await asyncio.gather(*(self.tenant(run_id) for run_id in some))
            for run_id, known in zip(some, tenants, strict=True):
                if known == tenant:
                    yield run_id

    async def keep(self, summary: RunSummary) -> None:
        """The summary of a run that has ended. A record that cannot be written costs a replay."""
        _keep(self._ended, summary.run_id, summary, MAX_SUMMARIES)
        try:
            await self._blobs.put_record(RECORDS, summary.run_id, encode(summary))
        except MoontideError as error:
            log.warning("summary not kept", extra={"run_id": summary.run_id, "code": error.code})

    async def _record(self, run_id: str) -> RunSummary | None:
        if run_id in self._states:
            return None
        try:
            data = await self._blobs.get_record(RECORDS, run_id)
            summary = None if data is None else decode(data, RunSummary)
        except (MoontideError, msgspec.MsgspecError) as error:
            log.warning("kept summary not readable", extra={"run_id": run_id, "reason": str(error)})
            return None
        if summary is not None:
            _keep(self._ended, run_id, summary, MAX_SUMMARIES)
        return summary

    async def _read(self, run_id: str) -> RunSummary:
        state = self._states.pop(run_id, None)
        if state is None:
            state = await self._ledger.state(run_id)
        else:
            self._turns -= _weight(state)
            await self._ledger.catch_up(state)
        summary = state.summary()
        if summary.status in ENDED:
            await self.keep(summary)
        else:
            self._hold(state)
        return summary

    def _hold(self, state: RunState) -> None:
        """The states that were asked for least recently make room."""
        self._states[state.run_id] = state
        self._turns += _weight(state)
        while self._turns > MAX_TURNS and len(self._states) > 1:
            _, forgotten = self._states.popitem(last=False)
            self._turns -= _weight(forgotten)


def _weight(state: RunState) -> int:
    return len(state.conversation.turns) + STATE_TURNS


def _keep(kept: OrderedDict[str, V], key: str, value: V, limit: int) -> None:
    kept[key] = value
    if len(kept) > limit:
        kept.popitem(last=False)
