"""Embeddings on their way to the shard: asked for before a sequence gets to them, and whose failure it is when not.

Input: what the shelf wants next. Output: keys that arrived, or generations that fail. It must not know tensors.
"""

import asyncio
import logging

from services.inference.generation import Generation
from services.inference.link import ShardLink, ShardLost
from services.inference.roster import Roster
from services.inference.schedule import State
from services.inference.sequence import Medium
from services.inference.shelf import Shelf
from shared.errors import Internal, MoontideError

log = logging.getLogger("inference")


class Arrivals:
    def __init__(self, shard: ShardLink, roster: Roster) -> None:
        self._shard, self._roster = shard, roster
        self._running: set[asyncio.Task[None]] = set()

    def fetch(self, state: State) -> None:
        """Ask for the embeddings that come next."""
        for medium in state.shelf.wanted(state.running):
            task = asyncio.create_task(self._fetch(medium, state.shelf))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def finish(self) -> None:
        """Wait for what is on its way."""
        if self._running:
            await asyncio.wait(self._running)

    async def _fetch(self, medium: Medium, shelf: Shelf) -> None:
        assert medium.span is not None
        waiting = [g for g in self._roster if medium.key in {m.key for m in g.sequence.media}]
        for generation in waiting:
            generation.media_fetched += 1
        try:
            await self._shard.fetch(medium.key, medium.span)
            shelf.arrived(medium.key)
        except ShardLost:
            shelf.failed(medium.key)
        except MoontideError as error:
            self._fail(medium, shelf, waiting, error)
        except Exception:
            log.exception("fetching embeddings failed")
            self._fail(medium, shelf, waiting, Internal("internal", "an internal error occurred"))
        self._roster.stirred.set()

    def _fail(self, medium: Medium, shelf: Shelf, waiting: list[Generation], error: MoontideError) -> None:
        shelf.failed(medium.key)
        for generation in waiting:
            self._roster.fail(generation, error)
