"""One sequence as the scheduler sees it: its tokens, its place in the cache, how far it has been computed. Plain state.

Blocks of a sequence are named by what decides their latents: ids, and for media the content behind the placeholders.
"""

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.generation import MediaSpan

if TYPE_CHECKING:
    from services.inference.prefix import Node

GUARD_TOKENS = 16
"""A guarded sequence may be preempted again once it has emitted so many tokens."""


@dataclass(frozen=True)
class Medium:
    """A media span at its place. ``key`` names patches and grid: equal keys, equal embeddings."""

    position: int
    tokens: int
    key: str
    span: MediaSpan | None = None

    @property
    def end(self) -> int:
        return self.position + self.tokens

    @classmethod
    def of(cls, span: MediaSpan) -> "Medium":
        frames, height, width = span.grid
        key = f"{span.patches.key}/{frames}x{height}x{width}"
        return cls(position=span.position, tokens=span.tokens, key=key, span=span)


@dataclass(eq=False)
class Sequence:
    number: int
    owner: str
    """Whose turn it is: tenant and key."""
    tokens: list[int]
    """Prompt and answer so far. At least one of them is not computed while the sequence lives."""
    prompt: int
    max_length: int
    batch: bool = False
    media: tuple[Medium, ...] = ()
    """In order of position."""
    pause_seconds: float = 0.0
    """After its end the same prefix will be asked for again after about so long; 0: nothing is known."""
    deadline_unix_seconds: float = float("inf")
    realm: bytes = b""
    """Prefixes are shared inside of it only: how fast and how cached an answer is says nothing of other realms."""

    computed: int = 0
    """Positions whose latents are in pages."""
    table: list[int] = field(default_factory=list)
    """Pages in order of position."""
    nodes: "list[Node]" = field(default_factory=list)
    """The first pages of the table belong to the prefix tree: these nodes of it."""
    changed_from: int = 0
    """The table differs from what the shard knows from this place on."""
    opened: bool = False
    """The shard knows the sequence."""
    turn: int = 0
    """Count of the admission that made it run."""
    rows_run: int = 0
    """Rows computed since that admission."""
    guard_until: int = 0
    """Not preempted in favour of others before it has so many tokens."""
    bypassed: int = 0
    """How many sequences were admitted past it while it did not fit."""
    promoted: bool = False
    """A batch sequence that waited too long counts as interactive."""
    losses: int = 0
    """How often a shard was lost under it since its last token."""
    preemptions: int = 0
    cached_tokens: int = 0
    """Positions of the prompt that were found in the cache at first."""
    _names: list[bytes] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ends = [medium.end for medium in self.media]

    @property
    def later(self) -> bool:
        """Comes after interactive ones."""
        return self.batch and not self.promoted

    @property
    def left(self) -> int:
        """Rows to compute before the next token is known."""
        return len(self.tokens) - self.computed

    @property
    def guarded(self) -> bool:
        return len(self.tokens) < self.guard_until

    def guard(self) -> None:
        self.guard_until = len(self.tokens) + GUARD_TOKENS

    def changed(self, place: int) -> None:
        self.changed_from = min(self.changed_from, place)

    def media_from(self, position: int) -> tuple[Medium, ...]:
        """Media that end behind ``position``."""
        return self.media[bisect_right(self._ends, position) :]

    def block(self, index: int, size: int) -> bytes:
        """Name of the full block ``index``: two blocks with equal names behind equal prefixes have equal latents."""
        while len(self._names) <= index:
            self._names.append(self._name(len(self._names) * size, size))
        return self._names[index]

    def _name(self, start: int, size: int) -> bytes:
        name = b"" if start else self.realm
        name += array("I", self.tokens[start : start + size]).tobytes()
        for medium in self.media_from(start):
            if medium.position >= start + size:
                break
            name += f"|{medium.position - start}+{medium.tokens}={medium.key}".encode()
        return name
