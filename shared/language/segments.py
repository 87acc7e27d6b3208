"""The pieces a prompt is made of, kept apart until they are token ids: markers by name, text, and places for media.

Text of a user is never joined with a marker's name, so that it cannot become one.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from schemas.media import MediaKind


@dataclass(frozen=True, slots=True)
class Marker:
    """One special token."""

    name: str


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class MediaSlot:
    """Where media part ``index`` of the conversation (counted over all messages from 0) goes."""

    kind: MediaKind
    index: int


Segment = Marker | Text | MediaSlot


class LaterTurn:
    """A turn that is ``write(source, form)``: who has seen that ``source`` object in that form need not write it."""

    __slots__ = ("form", "source", "write")

    def __init__(self, source: Any, form: Hashable, write: Callable[[Any, Any], Iterable[Segment]]) -> None:
        self.source = source
        self.form = form
        self.write = write

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.write(self.source, self.form))


Turn = list[Segment] | LaterTurn


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """Neighbouring texts become one, since their border must not be a token border; empty texts vanish."""
    result: list[Segment] = []
    run: list[str] = []
    for segment in segments:
        if isinstance(segment, Text):
            run.append(segment.text)
            continue
        _end_run(run, result)
        result.append(segment)
    _end_run(run, result)
    return result


def _end_run(run: list[str], result: list[Segment]) -> None:
    text = "".join(run)
    if text:
        result.append(Text(text))
    run.clear()
