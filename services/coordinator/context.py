"""What to do when the context fills: Kimi's three strategies, chosen before the next model call. Pure.

Input: the conversation, about how long it is, the window of the model, the strategy of the run. Output: the next
reduction, or none. hide_tool_results keeps the most recent round of results; where that is not enough, a summary takes
the place of the past; where that is not enough either, everything but goal and persons' words is dropped.
"""

import msgspec

from schemas.runs import ContextReduced, ContextStrategy
from services.coordinator.gauge import weight
from shared.ledger.conversation import Conversation

ROOM_AFTER = 0.75
"""Of the limit: hiding must leave at least the rest as room, or it would be due again at once; and every reduction
costs the cached prefix."""
NEAR = 0.8
"""Of the limit: from here on an estimate is not enough where the model's side can count."""
MAX_MESSAGES = 6_000
"""Of one request: its references must fit one message of the broker."""
ORDER: tuple[ContextStrategy, ...] = ("hide_tool_results", "summary", "discard_all")


class Window(msgspec.Struct, frozen=True, kw_only=True):
    context_length: int | None
    """Tokens; None: not announced, so that only a refusal tells that it is full."""
    reserve: int
    """Kept free for one answer."""

    @property
    def limit(self) -> int | None:
        """Prompt tokens beyond which the past is reduced."""
        if self.context_length is None:
            return None
        return self.context_length - min(self.reserve, self.context_length // 4)


def is_full(conversation: Conversation, prompt_tokens: int, window: Window) -> bool:
    over = window.limit is not None and prompt_tokens > window.limit
    return over or (len(conversation.turns) > MAX_MESSAGES and len(conversation.shown()) > MAX_MESSAGES)


def is_near(prompt_tokens: int, window: Window) -> bool:
    return window.limit is not None and prompt_tokens > NEAR * window.limit


def reduction(
    conversation: Conversation, prompt_tokens: int, window: Window, wanted: ContextStrategy, step: int
) -> ContextStrategy | None:
    """The strategy to use after ``step``; None: nothing is left that would help."""
    if all(turn.kind == "given" for turn in conversation.shown()):
        return None
    for strategy in ORDER[ORDER.index(wanted) :]:
        if _was_used(conversation.reductions, strategy, step):
            continue
        if strategy != "hide_tool_results" or _hiding_helps(conversation, prompt_tokens, window, step):
            return strategy
    return None


def through_step(strategy: ContextStrategy, step: int) -> int:
    """Where a reduction ends when ``step`` was the last one."""
    return max(step - 1, 0) if strategy == "hide_tool_results" else step


def _was_used(reductions: list[ContextReduced], strategy: ContextStrategy, step: int) -> bool:
    """At the end of this very step: it did not help enough. A restart covers what a summary would do."""
    stronger = ORDER[ORDER.index(strategy) :] if strategy != "hide_tool_results" else (strategy,)
    end = through_step(strategy, step)
    return any(known.strategy in stronger and known.through_step >= end for known in reductions)


def _hiding_helps(conversation: Conversation, prompt_tokens: int, window: Window, step: int) -> bool:
    turns = conversation.shown()
    if len(turns) > MAX_MESSAGES:
        return False
    share = weight(turns, through_step("hide_tool_results", step)) / max(weight(turns), 1.0)
    return share * prompt_tokens <= ROOM_AFTER * min(window.limit or prompt_tokens, prompt_tokens)
