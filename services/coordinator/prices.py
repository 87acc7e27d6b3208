"""What a model call costs. Pure, apart from reading the file once.

Input: a JSON file of prices per model, and the usage of a call. Output: US dollars. It must not know budgets or runs.
"""

from pathlib import Path

import msgspec

from schemas.chat import Usage
from schemas.codec import decode_json
from shared.errors import BadInput

PER_MILLION = 1e-6


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars per million tokens."""

    prompt: float
    completion: float
    cached: float | None = None
    """Of prompt tokens that came from a cache; None: as any other."""

    def of(self, usage: Usage) -> float:
        cached = self.prompt if self.cached is None else self.cached
        fresh_tokens = usage.prompt_tokens - usage.cached_tokens
        return PER_MILLION * (
            fresh_tokens * self.prompt + usage.cached_tokens * cached + usage.completion_tokens * self.completion
        )

    def of_prompt(self, tokens: int) -> float:
        """The most that a prompt can cost: nothing of it cached."""
        return PER_MILLION * tokens * max(self.prompt, self.cached or 0.0)

    def completion_tokens(self, usd: float) -> int | None:
        """How many tokens of answer ``usd`` pays for; None: any number."""
        return int(usd / (self.completion * PER_MILLION)) if self.completion > 0 else None


FREE = Price(prompt=0.0, completion=0.0)


class Prices:
    def __init__(self, table: dict[str, Price]) -> None:
        self._table = table

    def __contains__(self, model: str) -> bool:
        return model in self._table

    def of(self, model: str) -> Price:
        return self._table.get(model, FREE)


def read_prices(path: Path | None) -> Prices:
    """Raises BadInput(``coordinator.prices``) when the file is not a table of prices."""
    if path is None:
        return Prices({})
    try:
        table = decode_json(path.read_bytes(), dict[str, Price])
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput("coordinator.prices", f"the prices file cannot be read: {error}") from error
    if any(min(price.prompt, price.completion, price.cached or 0.0) < 0 for price in table.values()):
        raise BadInput("coordinator.prices", "a price is negative")
    return Prices(table)
