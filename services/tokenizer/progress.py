"""How far one answer has got: the ids so far, what they mean, and what a caller needs to continue behind them.

Input: ids from an engine, in order, repeats allowed. Output: ``ChatDelta``s with ``resume``. Pure.

``resume`` of all deltas, joined, is the list of ids behind them (little-endian uint32). The last one may be ``ENDED``:
what was held back has been sent, so that another attempt does not send it again.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from schemas.chat import ChatDelta, ContentLogprob, FinishReason, TokenLogprob
from schemas.generation import Logprobs, TokensGenerated
from shared.errors import BadInput, Unavailable
from shared.language.answer import AnswerParser
from shared.language.vocabulary import Vocabulary

ID_BYTES = 4
ENDED = b"\xff\xff\xff\xff"


class AnswerProgress:
    """``resume``: what earlier attempts have sent; it is replayed silently. Raises BadInput if it is no such thing."""

    def __init__(self, parser: AnswerParser, vocabulary: Vocabulary, resume: bytes = b"") -> None:
        self.parser = parser
        self._vocabulary = vocabulary
        self.ended = resume.endswith(ENDED) and len(resume) % ID_BYTES == 0
        ids = resume.removesuffix(ENDED) if self.ended else resume
        if len(ids) % ID_BYTES or np.frombuffer(ids, "<u4").max(initial=0) >= vocabulary.size:
            raise BadInput("chat.bad_resume", "resume is not what this model has sent", param="resume")
        self._ids = bytearray(ids)
        parser.push(_numbers(ids))

    @property
    def ids(self) -> bytes:
        """All ids so far, little-endian uint32."""
        return bytes(self._ids)

    @property
    def count(self) -> int:
        return len(self._ids) // ID_BYTES

    @property
    def is_complete(self) -> bool:
        """No further ids are wanted."""
        return self.ended or self.parser.stopped

    def take(self, item: TokensGenerated) -> ChatDelta:
        """What these ids add. Repeated ones are skipped; a gap raises Unavailable."""
        known, data = self.count - item.first_position, item.ids
        if known < 0 or len(data) % ID_BYTES:
            raise Unavailable("generation.gap", "the engine skipped tokens")
        before = self.parser.consumed
        numbers = _numbers(data[known * ID_BYTES :])
        delta = self.parser.push(numbers)
        consumed = self.parser.consumed - before
        new = data[known * ID_BYTES : (known + consumed) * ID_BYTES]
        self._ids += new
        return msgspec.structs.replace(delta, resume=new, logprobs=self._logprobs(numbers, item.logprobs[known:]))

    def _logprobs(self, numbers: Sequence[int], logprobs: Sequence[Logprobs]) -> tuple[ContentLogprob, ...]:
        """Of the content among ``numbers``. Special tokens are no alternatives that anybody could read."""
        places = [place for place in self.parser.content_places if place < len(logprobs)]
        return tuple(self._content_logprob(numbers[place], logprobs[place]) for place in places)

    def _content_logprob(self, token_id: int, logprobs: Logprobs) -> ContentLogprob:
        found = [
            TokenLogprob(data=self._vocabulary.token_bytes(top_id), logprob=logprob)
            for top_id, logprob in zip(logprobs.top_ids, logprobs.top, strict=False)
        ]
        chosen = TokenLogprob(data=self._vocabulary.token_bytes(token_id), logprob=logprobs.chosen)
        return ContentLogprob(chosen=chosen, top=tuple(top for top in found if top.data))

    def finish(self) -> ChatDelta:
        """What was held back, once for all attempts; empty if there is nothing."""
        rest = self.parser.finish()
        if self.ended or rest == ChatDelta():
            return ChatDelta()
        self.ended = True
        return msgspec.structs.replace(rest, resume=ENDED)

    def finish_reason(self, reason: Literal["stop", "length"]) -> FinishReason:
        """``tool_calls`` promises calls that can be run: an answer with a call that was cut off ended too early."""
        if self.parser.has_incomplete_call:
            return "length"
        return "tool_calls" if reason == "stop" and self.parser.has_tool_calls else reason


def _numbers(data: bytes) -> list[int]:
    return np.frombuffer(data, "<u4").tolist()
