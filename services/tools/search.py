"""What a search is, whoever answers it: a question and a number, to hits. Nothing here knows how."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Hit:
    title: str
    url: str
    """What ``fetch`` takes."""
    snippet: str
    date: str = ""
    start: int = 0
    """The character at which the passage begins, for ``fetch``."""


class SearchProvider(Protocol):
    @property
    def name(self) -> str: ...

    async def search(self, question: str, limit: int) -> list[Hit]:
        """At most ``limit`` hits, best first. Raises a MoontideError."""
        ...
