"""How far an answer got, so that a new attempt continues behind it: the state that the caller of a chat holds.

Input: deltas as they arrive, possibly repeated by a new attempt. Output: each piece of the answer once, and the
``resume`` payload of the next attempt. It must not know the wire or what is done with the pieces.

Small prefixes travel inline and are exact. Beyond that they are put to the blob store at checkpoints, and the attempt
continues behind the last checkpoint: what it then repeats is dropped by length, since the same request gives the same
answer (design principle 6).
"""

from collections import Counter
from typing import TypeVar

import msgspec

from schemas.blobs import INLINE_MAX_BYTES, BlobRef, Payload
from schemas.chat import ChatDelta, ContentLogprob, ToolCallDelta

CHECKPOINT_BYTES = INLINE_MAX_BYTES // 2
"""A new checkpoint is due after so many further bytes."""


Pieces = TypeVar("Pieces", str, tuple[ContentLogprob, ...])
Lengths = Counter[str]
"""Characters of each channel of an answer: reasoning, content, three per tool call; and how many logprobs."""


class Progress:
    def __init__(self) -> None:
        self._resume = bytearray()
        self._sent: Lengths = Counter()
        """What the client has been given."""
        self._position: Lengths = Counter()
        """What ``_resume`` stands for; behind ``_sent`` while an attempt repeats something."""
        self._checkpoint: tuple[BlobRef, int, Lengths] | None = None

    def begin_attempt(self) -> Payload:
        """The ``resume`` of a new attempt; what arrives from now on continues behind it."""
        if len(self._resume) <= INLINE_MAX_BYTES or self._checkpoint is None:
            return bytes(self._resume)
        ref, size, position = self._checkpoint
        del self._resume[size:]
        self._position = position.copy()
        return ref

    @property
    def checkpoint_due(self) -> bool:
        """Whether ``snapshot`` should be stored and given to ``checkpoint`` before the next delta is added."""
        stored = 0 if self._checkpoint is None else self._checkpoint[1]
        return len(self._resume) >= stored + CHECKPOINT_BYTES

    def snapshot(self) -> bytes:
        return bytes(self._resume)

    def checkpoint(self, ref: BlobRef) -> None:
        """``ref`` holds the latest snapshot."""
        self._checkpoint = (ref, ref.size_bytes, self._position.copy())

    def add(self, delta: ChatDelta) -> ChatDelta | None:
        """The part of ``delta`` that the client has not been given, or None."""
        self._resume += delta.resume
        fresh = ChatDelta(
            reasoning=self._fresh("reasoning", delta.reasoning),
            content=self._fresh("content", delta.content),
            tool_calls=tuple(call for call in map(self._fresh_call, delta.tool_calls) if call is not None),
            logprobs=self._fresh("logprobs", delta.logprobs),
        )
        return fresh if fresh.reasoning or fresh.content or fresh.tool_calls or fresh.logprobs else None

    def _fresh_call(self, call: ToolCallDelta) -> ToolCallDelta | None:
        channel = f"tool {call.index}"
        fresh = msgspec.structs.replace(
            call,
            id=self._fresh(f"{channel} id", call.id),
            name=self._fresh(f"{channel} name", call.name),
            arguments=self._fresh(f"{channel} arguments", call.arguments),
        )
        return fresh if fresh.id or fresh.name or fresh.arguments or fresh.incomplete else None

    def _fresh(self, channel: str, pieces: Pieces) -> Pieces:
        start = self._position[channel]
        end = self._position[channel] = start + len(pieces)
        sent = self._sent[channel]
        self._sent[channel] = max(sent, end)
        return pieces[max(0, sent - start) :]
