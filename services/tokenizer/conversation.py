"""The conversation of a request: its encoded messages and tools, decoded and checked.

Input: ``ChatRequest``. Output: ``Conversation``, or BadInput naming the message. Decoded messages are kept by their
bytes or their key, since a history is sent again with each step: equal messages are the same object. Knows nothing of
tokens.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.blobs import Payload
from schemas.chat import ChatRequest, MediaPart, Message, TextPart
from schemas.codec import decode
from services.tokenizer.blobs import Blobs
from shared.errors import BadInput
from shared.language.kept import Kept


@dataclass(frozen=True)
class Conversation:
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    tool_choice: str | dict[str, Any] | None = None
    """None: the default."""
    response_format: dict[str, Any] | None = None
    """None: any text."""

    @property
    def may_call(self) -> bool:
        """Whether the answer may call tools."""
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def call_count(self) -> int:
        return sum(len(message.tool_calls) for message in self.messages)

    @property
    def media(self) -> tuple[MediaPart, ...]:
        """Media parts of all messages, in order."""
        return tuple(part for message in self.messages for part in message.content if isinstance(part, MediaPart))

    @property
    def chars(self) -> int:
        """Size of the text, about."""
        return sum(
            len(message.reasoning or "")
            + sum(len(part.text) for part in message.content if isinstance(part, TextPart))
            + sum(len(call.arguments) for call in message.tool_calls)
            for message in self.messages
        )


class ConversationReader:
    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._known = Kept[Message]()

    async def read(self, request: ChatRequest) -> Conversation:
        """Raises BadInput naming ``messages[i]``, ``tools``, ``tool_choice`` or ``response_format``."""
        messages = [await self._message(payload, index) for index, payload in enumerate(request.messages)]
        if request.partial:
            check_unfinished(messages[-1], len(messages) - 1)
        return Conversation(
            tuple(messages),
            decode_tools(await self._blobs.resolve(request.tools)),
            _decoded(request.tool_choice, str | dict[str, Any], "tool_choice"),
            _decoded(await self._blobs.resolve(request.response_format), dict[str, Any], "response_format"),
        )

    async def _message(self, payload: Payload, index: int) -> Message:
        if (known := self._known.get(payload)) is not None:
            return known
        data = await self._blobs.resolve(payload)
        message = decode_message(data, index)
        self._known.keep(payload, message, len(data))
        return message


def decode_message(data: bytes, index: int) -> Message:
    param = f"messages[{index}]"
    try:
        message = decode(data, Message)
    except msgspec.MsgspecError as error:
        raise BadInput("chat.bad_message", f"{param} is not a message: {error}", param=param) from error
    if message.role == "tool" and not message.tool_call_id:
        raise BadInput("chat.bad_message", f"{param} is a tool result without tool_call_id", param=param)
    if message.tool_calls and message.role != "assistant":
        raise BadInput("chat.bad_message", f"{param} has tool calls but is not the assistant's", param=param)
    return message


def check_unfinished(message: Message, index: int) -> None:
    """Of the message that ``partial`` continues."""
    param = f"messages[{index}]"
    if message.role != "assistant":
        raise BadInput("chat.bad_message", f"{param} is not the assistant's, so it cannot be continued", param=param)
    if message.tool_calls or not all(isinstance(part, TextPart) for part in message.content):
        raise BadInput("chat.bad_message", f"{param} is more than text, so it cannot be continued", param=param)


def decode_tools(data: bytes) -> tuple[dict[str, Any], ...]:
    return _decoded(data, tuple[dict[str, Any], ...], "tools") or ()


def _decoded(data: bytes, kind: Any, param: str) -> Any:
    """None for nothing."""
    if not data:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadInput(f"chat.bad_{param}", f"{param} is not what it should be: {error}", param=param) from error
