"""Hard budgets: what would exceed one is not begun. Pure.

Input: a budget, what a run has spent, and about how long the next prompt is. Output: why no further model call may
begin, or how long its answer may be. So the overshoot is at most the call in flight.
"""

import msgspec

from schemas.failure import Failure
from schemas.runs import RunBudget
from services.coordinator.prices import Price

MIN_ANSWER_TOKENS = 16
"""An answer shorter than this is worth nothing: the call is not begun."""
FEW_STEPS = 3
"""Steps left at which the model is told."""


class Spent(msgspec.Struct, kw_only=True):
    """Of one run, over all its owners."""

    steps: int = 0
    tokens: int = 0
    cost_usd: float = 0.0


def exhausted(budget: RunBudget, spent: Spent, prompt_tokens: int, price: Price) -> Failure | None:
    """Why the next model call would exceed the budget."""
    if spent.steps >= budget.max_steps:
        return _failure("steps", f"all {budget.max_steps} steps of the run's budget are used")
    if budget.max_tokens is not None and budget.max_tokens - spent.tokens < prompt_tokens + MIN_ANSWER_TOKENS:
        return _failure("tokens", f"the next step would exceed the run's budget of {budget.max_tokens} tokens")
    if budget.max_cost_usd is not None and _affordable(budget.max_cost_usd, spent, prompt_tokens, price) == 0:
        return _failure("cost", f"the next step would exceed the run's budget of ${budget.max_cost_usd:g}")
    return None


def late(budget: RunBudget) -> Failure:
    return _failure("seconds", f"the run's {budget.max_seconds:g} seconds are over")


def answer_tokens(budget: RunBudget, spent: Spent, prompt_tokens: int, price: Price) -> int | None:
    """The most that the next answer may have; None: the budget says nothing of it."""
    limits: list[int] = []
    if budget.max_tokens is not None:
        limits.append(budget.max_tokens - spent.tokens - prompt_tokens)
    if budget.max_cost_usd is not None:
        affordable = _affordable(budget.max_cost_usd, spent, prompt_tokens, price)
        limits += [] if affordable is None else [affordable]
    return max(min(limits), MIN_ANSWER_TOKENS) if limits else None


def _affordable(max_cost_usd: float, spent: Spent, prompt_tokens: int, price: Price) -> int | None:
    """Tokens of answer that the rest of the money pays for behind a prompt; 0: not worth beginning."""
    left = max_cost_usd - spent.cost_usd - price.of_prompt(prompt_tokens)
    if left < 0:
        return 0
    tokens = price.completion_tokens(left)
    return 0 if tokens is not None and tokens < MIN_ANSWER_TOKENS else tokens


def _failure(kind: str, message: str) -> Failure:
    return Failure(code=f"run.budget_{kind}", message=message, status=409)
