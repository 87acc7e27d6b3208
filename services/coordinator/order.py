"""The order that makes a run durable, as values: what is recorded comes first, what follows from it second.

Input: how to record, and what to do then. Tests hand in the wrong order, to show that it would be noticed; there is no
switch for it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Record = Callable[[], Awaitable[None]]
Act = Callable[[], Awaitable[None]]
Ordered = Callable[[Record, Act], Awaitable[None]]


async def record_first(record: Record, act: Act) -> None:
    await record()
    await act()


@dataclass(frozen=True)
class Order:
    effects: Ordered = record_first
    """Intent, then effect: model calls and tool jobs begin when the ledger has their intent."""
    confirmations: Ordered = record_first
    """Append, then acknowledgement: of a wake-up, of a submitted run, of a command."""
