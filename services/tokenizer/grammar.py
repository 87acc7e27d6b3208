"""The form that a chat's answer must have, checked before an engine is asked.

Input: the request and its conversation. Output: ``GenerateRequest.grammar``, or BadInput naming the field. Schemas are
compiled here only for what can be refused: what is malformed, what cannot be enforced, what cannot fit.
"""

import logging
import re
from typing import Any

import msgspec

from schemas.chat import ChatRequest, Message, TextPart
from services.tokenizer.conversation import Conversation
from shared.errors import BadInput
from shared.language.grammar.compiler import GrammarCompiler
from shared.language.grammar.mask import check_room
from shared.language.grammar.source import AnswerGrammar, answer_grammar

_NATIVE_NUMBER = re.compile(r"functions\..+:(\d{1,9})")

log = logging.getLogger("tokenizer")


def wanted_grammar(
    request: ChatRequest, conversation: Conversation, response_format: bytes, *, thinking: bool
) -> AnswerGrammar | None:
    """None where any answer will do. ``thinking``: the answer begins inside the reasoning."""
    prefix = _prefix(conversation.messages[-1]) if request.partial else ""
    return answer_grammar(
        thinking=thinking,
        tools=[tool for tool in conversation.tools if _is_function(tool)],
        tool_choice=_decoded(request.tool_choice, "tool_choice"),
        response_format=_decoded(response_format, "response_format"),
        first_index=next_call_number(conversation.messages),
        prefix=prefix,
    )


def checked(compiler: GrammarCompiler, grammar: AnswerGrammar, max_tokens: int) -> bytes:
    """``grammar`` for the wire. Raises BadInput when it cannot be kept in so many tokens, or at all."""
    answer = compiler.compile(grammar)
    check_room(answer, max_tokens)
    for reason in answer.reasons:
        log.warning("a schema is enforced in part: %s", reason)
    return grammar.encode()


def next_call_number(messages: tuple[Message, ...]) -> int:
    """Behind every call of the conversation, and behind every number that one of them already has."""
    calls = [call for message in messages for call in message.tool_calls]
    numbers = [int(found[1]) for call in calls if (found := _NATIVE_NUMBER.fullmatch(call.id))]
    return max(len(calls), *(number + 1 for number in numbers), 0)


def _prefix(message: Message) -> str:
    return "".join(part.text for part in message.content if isinstance(part, TextPart))


def _is_function(tool: dict[str, Any]) -> bool:
    function = tool.get("function")
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _decoded(data: bytes, param: str) -> Any:
    try:
        return msgspec.json.decode(data) if data else None
    except msgspec.DecodeError as error:
        raise BadInput("chat.bad_request", f"{param} is not JSON", param=param) from error
