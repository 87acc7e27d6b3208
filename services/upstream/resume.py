"""What was delivered of an answer, as opaque pieces that a caller keeps and gives back.

An endpoint cannot continue an answer. Where it repeats one (temperature 0 and a seed), the pieces hold what was
delivered, so that a repetition can be compared and skipped; elsewhere they only say that something was. Pure.
"""

import struct
from collections.abc import Sequence

import msgspec

from schemas.chat import ChatDelta, ChatRequest, ToolCallDelta
from schemas.codec import decode, encode
from schemas.failure import NOT_RESUMABLE
from shared.errors import BadInput, Unavailable

_LENGTH = struct.Struct("<I")
UNREPEATABLE = _LENGTH.pack(0)
"""Something was delivered that nobody can repeat."""


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    reasoning: str = ""
    content: str = ""
    tool_calls: tuple[tuple[ToolCallDelta, ...], ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.reasoning or self.content or self.tool_calls)


def repeatable(chat: ChatRequest) -> bool:
    """Whether the same request gives the same answer, as far as an endpoint can be believed."""
    return chat.sampling.temperature == 0 and chat.sampling.seed is not None


def piece(delta: ChatDelta) -> bytes:
    """Length (uint32, little-endian) and msgpack of ``delta``."""
    data = encode(delta)
    return _LENGTH.pack(len(data)) + data


def delivered(resume: bytes) -> Delivered:
    """All pieces together. Raises Unavailable(``upstream.not_resumable``) when one says that it cannot be repeated."""
    return join(_split(resume))


def join(deltas: Sequence[ChatDelta]) -> Delivered:
    return Delivered(
        reasoning="".join(delta.reasoning for delta in deltas),
        content="".join(delta.content for delta in deltas),
        tool_calls=tuple(delta.tool_calls for delta in deltas if delta.tool_calls),
    )


def not_resumable() -> Unavailable:
    return Unavailable(
        NOT_RESUMABLE,
        "the answer was interrupted; it is not resumable, since the model's endpoint cannot continue an answer",
        status=502,
    )


def diverged() -> Unavailable:
    return Unavailable(
        NOT_RESUMABLE,
        "the answer was interrupted; it is not resumable, since the endpoint answers differently when asked again",
        status=502,
    )


class Skipper:
    """Lets through what comes behind the delivered part. One per attempt."""

    def __init__(self, already: Delivered) -> None:
        self._reasoning = already.reasoning
        self._content = already.content
        self._tool_calls = list(already.tool_calls)

    def text(self, reasoning: str, content: str) -> tuple[str, str]:
        """The new part of both. Raises ``diverged`` where the repetition differs."""
        self._reasoning, reasoning = _skip(self._reasoning, reasoning)
        self._content, content = _skip(self._content, content)
        return reasoning, content

    def tool_calls(self, deltas: tuple[ToolCallDelta, ...]) -> tuple[ToolCallDelta, ...]:
        if not self._tool_calls:
            return deltas
        if _without_ids(self._tool_calls.pop(0)) != _without_ids(deltas):
            raise diverged()
        return ()

    def finish(self) -> None:
        """Raises ``diverged`` when the repetition was shorter than what had been delivered."""
        if self._reasoning or self._content or self._tool_calls:
            raise diverged()


def _without_ids(deltas: tuple[ToolCallDelta, ...]) -> list[tuple[int, str, str]]:
    """Engines draw ids at random; the one that was delivered stands."""
    return [(delta.index, delta.name, delta.arguments) for delta in deltas]


def _skip(expected: str, text: str) -> tuple[str, str]:
    """(what is still expected, what is new)."""
    shared = min(len(expected), len(text))
    if expected[:shared] != text[:shared]:
        raise diverged()
    return expected[shared:], text[shared:]


def _split(resume: bytes) -> list[ChatDelta]:
    deltas: list[ChatDelta] = []
    position = 0
    while position < len(resume):
        if position + _LENGTH.size > len(resume):
            raise _unreadable()
        (length,) = _LENGTH.unpack_from(resume, position)
        position += _LENGTH.size
        if length == 0:
            raise not_resumable()
        deltas.append(_delta(resume[position : position + length]))
        position += length
    return deltas


def _delta(data: bytes) -> ChatDelta:
    try:
        return decode(data, ChatDelta)
    except msgspec.MsgspecError as error:
        raise _unreadable() from error


def _unreadable() -> BadInput:
    return BadInput("upstream.resume", "what the request wants to resume from is not ours", param="resume")
