"""How many tokens a chat's prompt has, as the model's tokenizer says it: one call with one item.

Input: a ``ChatRequest``. Output: ``TokensCounted``. It must not know HTTP.
"""

from contextlib import aclosing

import msgspec

from schemas import names
from schemas.chat import ChatRequest, CountRequest, TokensCounted
from schemas.request import RequestContext
from services.gateway.chat import Chats
from shared.calls.interface import CallPolicy, CallTarget
from shared.errors import Internal


class CountedTokens(msgspec.Struct, frozen=True, kw_only=True):
    total_tokens: int


class TokenEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """Moonshot's shape."""

    data: CountedTokens


async def count_tokens(chats: Chats, context: RequestContext, chat: ChatRequest) -> TokensCounted:
    """Raises what the tokenizer refuses, and Unavailable when it is not there."""
    target = CallTarget(
        subject=names.count(chat.model), context=context, policy=CallPolicy(wait_for_first_responder=False)
    )
    request = CountRequest(chat=chat)
    counted: TokensCounted | None = None
    async with aclosing(chats.follow(chats.bus, chats.clock, target, lambda: request, TokensCounted)) as items:
        async for item in items:
            counted = item
    if counted is None:
        raise Internal("count.incomplete", "the count ended without its item")
    return counted
