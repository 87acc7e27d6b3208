"""What an answer came to in tokens, also one that was broken off, of which nobody counted any.

Pure. Input: a chat as far as it got. Output: ``Usage``. It must not know who pays.
"""

from schemas.chat import Usage
from services.gateway.chat import Chat
from services.gateway.choices import usage_of_all
from services.gateway.token_estimate import BYTES_PER_TOKEN


def used(chat: Chat, expected_prompt_tokens: int) -> Usage | None:
    """None where nothing came. What no choice has counted is judged by its length."""
    if chat.finished:
        return usage_of_all(chat.finished)
    if not chat.begun:
        return None
    counted = (
        usage_of_all(chat.ended) if chat.ended else Usage(prompt_tokens=expected_prompt_tokens, completion_tokens=0)
    )
    return Usage(
        prompt_tokens=counted.prompt_tokens,
        completion_tokens=max(counted.completion_tokens, chat.received_bytes // BYTES_PER_TOKEN),
        media_tokens=counted.media_tokens,
        cached_tokens=counted.cached_tokens,
    )


def total_tokens(usage: Usage | None) -> int:
    return 0 if usage is None else usage.prompt_tokens + usage.completion_tokens
