"""Calls that lead nowhere: the same again and again, or malformed. Pure.

Input: the calls of a run in order, and how they ended. Output: whether a call should be run, and whether the run still
gets anywhere. Equal calls on an equal workspace count as one; a call that was useful after a change is never refused.
"""

from collections import Counter, deque

from schemas.blobs import BlobRef

Signature = tuple[str, str, str]
"""Tool, key of its arguments, key of the workspace before it."""

WINDOW_CALLS = 64
"""How far back calls are remembered."""
MAX_SAME_CALLS = 4
"""Equal calls within the window that are run; the next ones are answered in words."""
MAX_FRUITLESS_STEPS = 8
"""Steps in a row without a single useful call, after which the run has failed."""
FRUITLESS_CODES = frozenset({"tool.unknown", "tool.arguments", "tool.repeated"})
"""Failures of calls that were never run."""


class Repetition:
    def __init__(self) -> None:
        self._recent: deque[Signature] = deque()
        self._counts: Counter[Signature] = Counter()
        self._fruitless_steps = 0

    def times(self, signature: Signature) -> int:
        """How often this very call was made among the recent ones."""
        return self._counts[signature]

    def asked(self, signature: Signature) -> None:
        self._recent.append(signature)
        self._counts[signature] += 1
        if len(self._recent) > WINDOW_CALLS:
            self._forget(self._recent.popleft())

    def _forget(self, signature: Signature) -> None:
        self._counts[signature] -= 1
        if self._counts[signature] == 0:
            del self._counts[signature]

    def step_ended(self, *, fruitful: bool) -> None:
        self._fruitless_steps = 0 if fruitful else self._fruitless_steps + 1

    def leads_nowhere(self, *, fruitful: bool) -> bool:
        """``fruitful``: whether the last step was."""
        return not fruitful and self._fruitless_steps + 1 >= MAX_FRUITLESS_STEPS


def signature(tool: str, arguments: BlobRef, workspace: BlobRef | None) -> Signature:
    return tool, arguments.key, "" if workspace is None else workspace.key
