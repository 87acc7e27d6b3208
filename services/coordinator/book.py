"""Summaries of runs, read from their ledgers and kept while they are asked for.

Input: run ids. Output: ``RunSummary``, current at the time of asking. A run that ended never changes; one that goes
on is caught up with, entry by entry. It must not know who asks.
"""

from collections import OrderedDict
from typing import TypeVar

from schemas.runs import RunSummary
from shared.errors import NotFound
from shared.ledger.journal import Ledger
from shared.ledger.state import RunState

V = TypeVar("V")
MAX_STATES = 64
"""Whole states of runs that go on."""
MAX_SUMMARIES = 10_000
MAX_TENANTS = 200_000


class RunBook:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._states: OrderedDict[str, RunState] = OrderedDict()
        self._ended: OrderedDict[str, RunSummary] = OrderedDict()
        self._tenants: OrderedDict[str, str] = OrderedDict()

    async def summary(self, run_id: str, tenant: str) -> RunSummary:
        """Raises NotFound (``run.not_found``): for a run of another tenant just as for none."""
        if await self.tenant(run_id) != tenant:
            raise NotFound("run.not_found", f"there is no run {run_id}", param="run_id")
        if run_id in self._ended:
            self._ended.move_to_end(run_id)
            return self._ended[run_id]
        state = await self._state(run_id)
        summary = state.summary()
        if state.ended:
            self._states.pop(run_id, None)
            _keep(self._ended, run_id, summary, MAX_SUMMARIES)
        return summary

    async def tenant(self, run_id: str) -> str:
        """Raises NotFound."""
        if run_id not in self._tenants:
            accepted = (await self._ledger.read(run_id, limit=1))[0].entry.events[0]
            _keep(self._tenants, run_id, accepted.context.principal.tenant, MAX_TENANTS)  # type: ignore[union-attr]
        return self._tenants[run_id]

    async def _state(self, run_id: str) -> RunState:
        known = self._states.pop(run_id, None)
        if known is None:
            known = await self._ledger.state(run_id)
        else:
            await self._ledger.catch_up(known)
        _keep(self._states, run_id, known, MAX_STATES)
        return known


def _keep(kept: OrderedDict[str, V], key: str, value: V, limit: int) -> None:
    kept[key] = value
    if len(kept) > limit:
        kept.popitem(last=False)
