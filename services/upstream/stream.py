"""Server-sent events from bytes that arrive in any pieces. Pure: no clock, no connection, no JSON.

Input: byte pieces. Output: the data of each complete event. Stricter than the standard in one point: a line whose
field is unknown is an error, since in a chat stream it is a damaged piece of the answer, and a lost piece is worse
than an error. Lines and events are bounded.
"""

from collections.abc import Iterator

MAX_LINE_BYTES = 8 * 1024 * 1024
FIELDS = frozenset((b"data", b"event", b"id", b"retry"))
_BOM = b"\xef\xbb\xbf"


class MalformedStreamError(Exception):
    """The bytes are no event stream; the text says why and quotes nothing."""


class EventParser:
    """``feed`` pieces, get the data of completed events; ``close`` at the end of the body."""

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_bytes = max_line_bytes
        self._pending = bytearray()
        """The unfinished last line."""
        self._searched = 0
        """Bytes of ``pending`` that are known to hold no end of line."""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._after_return = False
        """The last byte was a carriage return: a line feed that follows belongs to it."""
        self._started = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Data of the events that ``piece`` completes; to be read to its end. Raises MalformedStreamError behind the
        last good event, so that what is delivered does not depend on how the bytes were cut."""
        self._pending += piece
        if not self._started and not self._begin():
            return
        while (line := self._next_line()) is not None:
            event = self._take(line)
            if event is not None:
                yield event
        if len(self._pending) > self._max_bytes:
            raise MalformedStreamError(f"a line is longer than {self._max_bytes} bytes")

    def close(self) -> Iterator[bytes]:
        """The event that only lacks the empty line at its end; some endpoints leave that out."""
        self._started = True
        yield from self.feed(b"\n\n")

    def _begin(self) -> bool:
        """Drop a byte order mark. False while it cannot be told whether there is one."""
        if len(self._pending) < len(_BOM) and _BOM.startswith(bytes(self._pending)):
            return False
        if self._pending.startswith(_BOM):
            del self._pending[: len(_BOM)]
        self._started = True
        return True

    def _next_line(self) -> bytes | None:
        if self._after_return and self._pending:
            if self._pending[0] == 0x0A:
                del self._pending[0]
            self._after_return = False
        end = self._line_end()
        if end < 0:
            self._searched = len(self._pending)
            return None
        line = bytes(self._pending[:end])
        self._after_return = self._pending[end] == 0x0D
        del self._pending[: end + 1]
        self._searched = 0
        return line

    def _line_end(self) -> int:
        feed = self._pending.find(b"\n", self._searched)
        back = self._pending.find(b"\r", self._searched, feed if feed >= 0 else len(self._pending))
        return back if back >= 0 else feed

    def _take(self, line: bytes) -> bytes | None:
        """One line; the event's data when the line ends one that has data."""
        if not line:
            return self._complete()
        field, _, value = line.partition(b":")
        if not field:
            return None  # a comment: endpoints keep connections alive with them
        if field not in FIELDS:
            raise MalformedStreamError("a line is neither an event field nor a comment")
        if field == b"data":
            self._keep(value[1:] if value.startswith(b" ") else value)
        return None

    def _keep(self, value: bytes) -> None:
        self._data.append(value)
        self._data_bytes += len(value) + 1
        if self._data_bytes > self._max_bytes + 1:
            raise MalformedStreamError(f"an event is longer than {self._max_bytes} bytes")

    def _complete(self) -> bytes | None:
        if not self._data:
            return None
        data = b"\n".join(self._data)
        self._data, self._data_bytes = [], 0
        return data or None
