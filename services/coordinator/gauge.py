"""About how many tokens the next prompt has: what the model's side counted last, and an estimate of what is new. Pure.

Input: sizes of messages, and the usage of answers. Output: tokens. One message costs the same at the thousandth step as
at the first; only a reduction goes over the whole past.
"""

from collections.abc import Iterable

from schemas.chat import Usage
from shared.ledger.conversation import Turn

BYTES_PER_TOKEN = 3.0
"""Of encoded messages, guessed low: an estimate errs towards a fuller context."""
TURN_TOKENS = 8
HIDDEN_TOKENS = 40


class Gauge:
    def __init__(self, given: Iterable[Turn]) -> None:
        self._overhead = 0.0
        self._weight = weight(given)
        """Estimate of all that is shown."""
        self._tokens = self._weight
        """The same, put right by what was counted."""
        self._was_counted = False
        self.is_measured = False
        """Somebody counted this very prompt, and nothing was added since."""

    @property
    def prompt_tokens(self) -> int:
        return int(self._tokens)

    def add(self, size_bytes: int) -> None:
        new = size_bytes / BYTES_PER_TOKEN + TURN_TOKENS
        self._weight += new
        self._tokens += new
        self.is_measured = False

    def set_overhead(self, size_bytes: int) -> None:
        """System prompt and tools: part of every prompt, and of every count."""
        change = size_bytes / BYTES_PER_TOKEN - self._overhead
        self._overhead += change
        self._weight += change
        self._tokens += 0.0 if self._was_counted else change

    def counted(self, usage: Usage) -> None:
        """Of the last answer, which is part of the next prompt, and has been added."""
        self._tokens = float(usage.prompt_tokens + usage.completion_tokens)
        self._was_counted = True

    def measured(self, prompt_tokens: int | None) -> None:
        """Somebody counted the next prompt; None: it could not be counted, and the estimate stands."""
        self.is_measured = True
        if prompt_tokens is not None:
            self._tokens = float(prompt_tokens)
            self._was_counted = True

    def reduced(self, shown: Iterable[Turn]) -> None:
        left = weight(shown) + self._overhead
        self._tokens *= left / max(self._weight, 1.0)
        self._weight = left
        self.is_measured = False


def weight(turns: Iterable[Turn], hidden_through: int = 0) -> float:
    """About the tokens of turns; ``hidden_through``: as if results up to that step were hidden."""
    return sum(_tokens(turn, hidden_through) for turn in turns)


def _tokens(turn: Turn, hidden_through: int) -> float:
    whole = turn.message.size_bytes / BYTES_PER_TOKEN + TURN_TOKENS
    is_hidden = turn.hidden or (turn.kind == "tool" and turn.step <= hidden_through)
    return min(whole, HIDDEN_TOKENS) if is_hidden else whole
