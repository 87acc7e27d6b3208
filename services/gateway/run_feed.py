"""A run as it happens: every entry of its ledger once and in order, and what is live between them.

Input: a run and how far its reader is. Output: ``NumberedEntry``s without a gap or a repeat, ``RunDelta``s in between;
the feed ends behind the run's last entry. What is heard live only says that looking is worth while: the ledger is then
asked for everything behind the last entry, so a lost message, a dead coordinator or an overflow costs a moment and no
entry. It must not know how entries are shown.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from schemas import codec, names
from schemas.request import Principal
from schemas.runs import (
    EntriesListed,
    ModelAnswered,
    ModelAsked,
    NumberedEntry,
    RunDelta,
    RunEnded,
    RunLive,
    ToolAnswered,
)
from services.gateway.runs import Runs
from shared.bus.interface import Subscription
from shared.errors import MoontideError, Unavailable

TERMINAL = frozenset({"finished", "failed", "cancelled"})
LIVE_MAX_PENDING = 4096
RETRY_SECONDS = 0.5
LIVE: Any = RunLive

Item = NumberedEntry | RunDelta


class RunFeed:
    """One reader of one run: opened, read, closed."""

    def __init__(self, runs: Runs, principal: Principal, poll_seconds: float, unreachable_seconds: float) -> None:
        """``poll_seconds``: how long nothing is heard before the ledger is asked anyway. ``unreachable_seconds``: how
        long nobody may be there to ask before the feed gives up."""
        self._runs = runs
        self._principal = principal
        self._poll_seconds = poll_seconds
        self._unreachable_seconds = unreachable_seconds
        self._run_id = ""
        self._live: Subscription | None = None
        self._sequence = 0
        self._ended = False
        self._answered_step = 0
        self._answered_calls: set[str] = set()

    async def open(self, run_id: str) -> None:
        """Listens from now on, also before the run begins. Raises Unavailable."""
        if self._live is None:
            self._run_id = run_id
            self._live = await self._runs.bus.subscribe(names.run_live(run_id), max_pending=LIVE_MAX_PENDING)

    async def close(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            await live.close()

    async def items(self, after: int = 0) -> AsyncGenerator[Item, None]:
        """From behind the entry ``after``, which must not be the last one of a run that has ended: nothing would come.
        Raises NotFound, and Unavailable when nobody can be asked for too long."""
        self._sequence = after
        while not self._ended:
            live = await self._patiently(self._listening)
            async with aclosing(self._followed(live)) as items:
                async for item in items:
                    yield item
            await self.close()

    async def _listening(self) -> Subscription:
        await self.open(self._run_id)
        assert self._live is not None
        return self._live

    async def _followed(self, live: Subscription) -> AsyncGenerator[Item, None]:
        """Until the run has ended, or the subscription has: it overflowed, or the connection broke."""
        heard: Item | None = None
        while not self._ended:
            if isinstance(heard, RunDelta):
                if self._is_fresh(heard):
                    yield heard
            elif heard is None or heard.sequence > self._sequence:
                async with aclosing(self._behind()) as entries:
                    async for entry in entries:
                        yield entry
            if self._ended:
                return
            try:
                heard = _decoded(await live.next(self._poll_seconds))
            except Unavailable:
                return

    async def _behind(self) -> AsyncGenerator[NumberedEntry, None]:
        """Everything in the ledger that the reader does not have."""
        more = True
        while more and not self._ended:
            listed = await self._page()
            fresh = [entry for entry in listed.entries if entry.sequence > self._sequence]
            more = listed.more and fresh != []
            for entry in fresh:
                self._note(entry)
                yield entry

    async def _page(self) -> EntriesListed:
        async def ask() -> EntriesListed:
            return await self._runs.entries(self._principal, self._run_id, self._sequence)

        return await self._patiently(ask)

    async def _patiently(self, attempt: Any) -> Any:
        clock = self._runs.clock
        end = clock.monotonic_seconds() + self._unreachable_seconds
        while True:
            try:
                return await attempt()
            except MoontideError as error:
                if not error.retryable or clock.monotonic_seconds() > end:
                    raise
            await clock.sleep(RETRY_SECONDS)

    def _note(self, numbered: NumberedEntry) -> None:
        self._sequence = numbered.sequence
        for event in numbered.entry.events:
            if isinstance(event, ModelAsked):
                self._answered_calls.clear()
            elif isinstance(event, ModelAnswered):
                self._answered_step = event.step
            elif isinstance(event, ToolAnswered):
                self._answered_calls.add(event.call_id)
            elif isinstance(event, RunEnded):
                self._ended = True

    def _is_fresh(self, delta: RunDelta) -> bool:
        """Pieces of what the ledger already has whole come too late."""
        if delta.call_id:
            return delta.call_id not in self._answered_calls
        return delta.step > self._answered_step


def _decoded(data: bytes | None) -> Item | None:
    """None: nothing was heard, or nothing that can be read."""
    try:
        return codec.decode(data, LIVE) if data is not None else None
    except msgspec.MsgspecError:
        return None
