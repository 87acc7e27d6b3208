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
    def __init__(self, blobs: Blobs, *, max_cached_bytes: int = MAX_CACHED_BYTES) -> None:
        self._blobs = blobs
        self._max_cached_bytes = max_cached_bytes
        self._cached_bytes = 0
        self._known: OrderedDict[str, tuple[Message, int]] = OrderedDict()

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
