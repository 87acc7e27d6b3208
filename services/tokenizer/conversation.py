"""The conversation of a request: its encoded messages and tools, decoded and checked.

Input: ``ChatRequest``. Output: ``Conversation``, or BadInput naming the message. Messages that travel by reference are
kept decoded by their key, since a history is sent again with each step. Knows nothing of tokens.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.blobs import BlobRef, Payload
from schemas.chat import ChatRequest, MediaPart, Message, TextPart
from schemas.codec import decode
from services.tokenizer.blobs import Blobs
from shared.errors import BadInput

MAX_CACHED_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Conversation:
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]

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
    def __init__(self, blobs: Blobs, *, max_cached_bytes: int = MAX_CACHED_BYTES) -> None:
        self._blobs = blobs
        self._max_cached_bytes = max_cached_bytes
        self._cached_bytes = 0
        self._known: OrderedDict[str, tuple[Message, int]] = OrderedDict()

    async def read(self, request: ChatRequest) -> Conversation:
        """Raises BadInput naming ``messages[i]`` or ``tools``."""
        messages = [await self._message(payload, index) for index, payload in enumerate(request.messages)]
        return Conversation(tuple(messages), decode_tools(await self._blobs.resolve(request.tools)))

    async def _message(self, payload: Payload, index: int) -> Message:
        if isinstance(payload, bytes):
            return decode_message(payload, index)
        if payload.key in self._known:
            self._known.move_to_end(payload.key)
            return self._known[payload.key][0]
        message = decode_message(await self._blobs.resolve(payload), index)
        self._keep(payload, message)
        return message

    def _keep(self, ref: BlobRef, message: Message) -> None:
        if ref.key in self._known or ref.size_bytes > self._max_cached_bytes:
            return
        self._known[ref.key] = (message, ref.size_bytes)
        self._cached_bytes += ref.size_bytes
        while self._cached_bytes > self._max_cached_bytes:
            self._cached_bytes -= self._known.popitem(last=False)[1][1]


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


def decode_tools(data: bytes) -> tuple[dict[str, Any], ...]:
    if not data:
        return ()
    try:
        return msgspec.json.decode(data, type=tuple[dict[str, Any], ...])
    except msgspec.MsgspecError as error:
        raise BadInput("chat.bad_tools", f"tools is not a list of objects: {error}", param="tools") from error
