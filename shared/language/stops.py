"""Stop strings over text that arrives in pieces: nothing of a stop string, or behind one, is passed on.

Held back is only the longest end of the text that could still become a stop string.
"""

from collections.abc import Sequence


class StopMatcher:
    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.hit = False

    def push(self, text: str) -> str:
        """What may be passed on now; empty for ever after a hit."""
        if self.hit:
            return ""
        text = self._held + text
        found = min((place for stop in self._stops if (place := text.find(stop)) >= 0), default=-1)
        if found >= 0:
            self.hit, self._held = True, ""
            return text[:found]
        passed = len(text) - self._open_length(text)
        self._held = text[passed:]
        return text[:passed]

    def finish(self) -> str:
        """What was held back, when no more text follows."""
        held, self._held = self._held, ""
        return held

    def _open_length(self, text: str) -> int:
        lengths = range(min(self._longest - 1, len(text)), 0, -1)
        return next((n for n in lengths if any(stop.startswith(text[-n:]) for stop in self._stops)), 0)
