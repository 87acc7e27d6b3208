"""One answer while it arrives: text goes to the caller at once, tool calls are gathered until somebody checked them.

Input: ``Piece``s of one or more attempts. Output: ``ChatDelta``s on the writer (if there is one), and what was
gathered. It must not know where pieces come from.
"""

import msgspec

from schemas.chat import ChatDelta, FinishReason, ToolCall, Usage
from services.upstream import resume, tools
from services.upstream.faults import Fault, broken
from services.upstream.resume import Delivered, Skipper
from services.upstream.translate import Piece
from shared.calls.interface import CallWriter
from shared.clock import Clock
from shared.errors import BadInput

FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


class Answer:
    """``out`` None: nothing is passed on, only gathered. ``already``: what earlier attempts delivered."""

    def __init__(self, out: CallWriter | None, clock: Clock, *, repeatable: bool, already: Delivered) -> None:
        self._out = out
        self._clock = clock
        self._repeatable = repeatable
        self._already = already
        self._sent: list[ChatDelta] = []
        self._has_sent = not already.is_empty
        self.first_at: float | None = None
        """Monotonic seconds of the first word."""
        self.begin()

    def begin(self) -> None:
        """A new attempt: everything comes again from the start."""
        already = resume.join([*_as_delta(self._already), *self._sent])
        self._skipper = Skipper(already)
        self._gatherer = tools.CallGatherer()
        self._content: list[str] = []
        self._waiting = ("", "")
        self._raw_finish: str | None = None
        self.usage: Usage | None = None

    @property
    def may_begin_again(self) -> bool:
        return self._repeatable or not self._has_sent

    @property
    def complete(self) -> bool:
        return self._raw_finish is not None

    @property
    def content(self) -> str:
        return "".join(self._content)

    @property
    def finish_reason(self) -> FinishReason:
        """As sent; whoever passes tool calls on decides about ``tool_calls``."""
        return FINISH_REASONS[self._raw_finish or "stop"]

    def calls(self, id_prefix: str) -> tuple[ToolCall, ...]:
        return self._gatherer.calls(id_prefix)

    def take(self, piece: Piece) -> None:
        """Text waits for ``flush``. Raises Unavailable(``upstream.not_resumable``) when a repetition differs."""
        self._gatherer.take(piece.tool_calls)
        self.usage = piece.usage or self.usage
        self._raw_finish = piece.finish_reason or self._raw_finish
        if piece.content:
            self._content.append(piece.content)
        if piece.content or piece.reasoning or piece.tool_calls:
            self.first_at = self.first_at or self._clock.monotonic_seconds()
        if self._out is not None and (piece.content or piece.reasoning):
            reasoning, content = self._skipper.text(piece.reasoning, piece.content)
            self._waiting = (self._waiting[0] + reasoning, self._waiting[1] + content)

    async def flush(self) -> None:
        """Send the text that waits, in one delta."""
        reasoning, content = self._waiting
        self._waiting = ("", "")
        if reasoning or content:
            await self._send(ChatDelta(reasoning=reasoning, content=content))

    def end(self) -> None:
        """The endpoint has nothing more to say. Raises Fault when that cannot be the whole answer."""
        if self._raw_finish is None:
            raise broken("died", "the endpoint's answer ended without a finish reason")
        if self._raw_finish == "content_filter":
            error = BadInput("upstream.content_filter", "the model's endpoint withheld the answer (content filter)")
            raise Fault(error, transient=False, unhealthy=False)
        if self._raw_finish not in FINISH_REASONS:
            raise broken("aborted", "the model's endpoint gave up on its answer")

    async def send_content(self, content: str) -> None:
        """Pass on text that another request brought in place of this one's."""
        _, new = self._skipper.text("", content)
        if new:
            await self._send(ChatDelta(content=new))

    async def send_calls(self, calls: tuple[ToolCall, ...]) -> None:
        """Pass checked calls on as a stream; raises like ``take``. Last word of the answer."""
        for deltas in tools.deltas(calls):
            if new := self._skipper.tool_calls(deltas):
                await self._send(ChatDelta(tool_calls=new))
        self._skipper.finish()

    async def _send(self, delta: ChatDelta) -> None:
        if self._out is None:
            return
        piece = resume.piece(delta) if self._repeatable else resume.UNREPEATABLE
        self._has_sent = True
        if self._repeatable:
            self._sent.append(delta)
        await self._out.send(msgspec.structs.replace(delta, resume=piece))


def _as_delta(already: Delivered) -> list[ChatDelta]:
    text = ChatDelta(reasoning=already.reasoning, content=already.content)
    return [text, *(ChatDelta(tool_calls=deltas) for deltas in already.tool_calls)]
