"""Between engine and shard: what an engine may ask, whether the shard lives in this process or in another."""

from typing import Protocol

from schemas.generation import MediaSpan
from schemas.shards import Forward, ForwardDone, ShardReady
from shared.errors import Unavailable


class ShardLost(Unavailable):
    """The shard died, fell silent or was replaced: whatever it held is gone."""

    def __init__(self) -> None:
        super().__init__("shard.lost", "a shard was lost", retry_after_seconds=0.0)


class ShardLink(Protocol):
    async def ready(self) -> ShardReady:
        """An empty shard, after the start and after each ``ShardLost``. Raises Unavailable when there is none."""
        ...

    async def execute(self, forward: Forward) -> ForwardDone:
        """One forward at a time. Raises ShardLost, or what the computation failed with."""
        ...

    async def fetch(self, key: str, span: MediaSpan) -> None:
        """The embeddings are at the shard when this returns. Raises ShardLost, or why there are none."""
        ...
