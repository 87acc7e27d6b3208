"""Items of a chat as OpenAI's objects: chunks of a stream, or one completion. Both are made from the same deltas, so
the streamed text equals the unstreamed one by construction.

Pure: input ``ChatDelta`` and ``ChatFinished``, output the structs of ``answer_body``. It must not know HTTP.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET, UnsetType

from schemas.chat import ChatDelta, ChatFinished, ContentLogprob, TokenLogprob, ToolCallDelta
from services.gateway.answer_body import (
    AnswerCall,
    AnswerFunction,
    AnswerMessage,
    Choice,
    Chunk,
    ChunkChoice,
    Completion,
    Delta,
    DeltaCall,
    DeltaFunction,
    LogprobBody,
    Logprobs,
    RunFacts,
    TopLogprob,
    extension,
    usage_body,
)
from services.gateway.choices import usage_of_all


@dataclass(frozen=True)
class AnswerHead:
    """What every object of one answer repeats."""

    request_id: str
    trace_id: str
    model: str
    created_unix_seconds: int
    run_id: str = ""
    """Of an agent's answer."""


def first_chunk(head: AnswerHead, index: int = 0) -> Chunk:
    return chunk(head, ChunkChoice(index=index, delta=Delta(role="assistant", content="")))


def delta_chunk(head: AnswerHead, delta: ChatDelta, index: int = 0) -> Chunk:
    logprobs = logprobs_body(delta.logprobs) if delta.logprobs else None
    return chunk(head, ChunkChoice(index=index, delta=_delta(delta), logprobs=logprobs))


def end_chunk(head: AnswerHead, finished: ChatFinished, index: int = 0) -> Chunk:
    """The end of one choice. Its usage is in it, as Moonshot's clients expect."""
    choice = ChunkChoice(
        index=index, delta=Delta(), finish_reason=finished.finish_reason, usage=usage_body(finished.usage)
    )
    return chunk(head, choice)


def last_chunks(
    head: AnswerHead,
    ended: Chunk,
    finished: Sequence[ChatFinished],
    total_seconds: float,
    include_usage: bool,
    run: RunFacts | UnsetType = UNSET,
) -> list[Chunk]:
    """``ended``: the end of the choice that ended last. Behind it, if asked for, the usage; the extension is in the
    last one."""
    fingerprint = finished[0].system_fingerprint
    ours = extension(head.trace_id, head.request_id, finished[0], total_seconds, run)
    if not include_usage:
        return [msgspec.structs.replace(ended, system_fingerprint=fingerprint, moontide=ours)]
    usage = usage_body(usage_of_all(finished))
    return [
        ended,
        msgspec.structs.replace(ended, choices=(), usage=usage, system_fingerprint=fingerprint, moontide=ours),
    ]


def chunk(head: AnswerHead, choice: ChunkChoice) -> Chunk:
    return Chunk(
        id=head.request_id,
        object="chat.completion.chunk",
        created=head.created_unix_seconds,
        model=head.model,
        choices=(choice,),
        run_id=head.run_id,
    )


def _delta(delta: ChatDelta) -> Delta:
    # Moonshot's API says reasoning_content; the K2.6 card's examples read reasoning.
    return Delta(
        content=delta.content or UNSET,
        reasoning_content=delta.reasoning or UNSET,
        reasoning=delta.reasoning or UNSET,
        tool_calls=tuple(_delta_call(call) for call in delta.tool_calls) or UNSET,
    )


def _delta_call(call: ToolCallDelta) -> DeltaCall:
    return DeltaCall(
        index=call.index,
        id=call.id or UNSET,
        type="function" if call.id else UNSET,
        function=DeltaFunction(name=call.name or UNSET, arguments=call.arguments),
        incomplete=call.incomplete or UNSET,
    )


@dataclass
class Answer:
    """The deltas of one choice put together."""

    reasoning: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    calls: dict[int, ToolCallDelta] = field(default_factory=dict)
    logprobs: list[ContentLogprob] = field(default_factory=list)

    def add(self, delta: ChatDelta) -> None:
        self.reasoning.append(delta.reasoning)
        self.content.append(delta.content)
        self.logprobs += delta.logprobs
        for call in delta.tool_calls:
            known = self.calls.get(call.index, ToolCallDelta(index=call.index))
            self.calls[call.index] = ToolCallDelta(
                index=call.index,
                id=known.id + call.id,
                name=known.name + call.name,
                arguments=known.arguments + call.arguments,
                incomplete=known.incomplete or call.incomplete,
            )

    def choice(self, index: int, finished: ChatFinished, with_logprobs: bool) -> Choice:
        return Choice(
            index=index,
            message=self._message(),
            finish_reason=finished.finish_reason,
            logprobs=logprobs_body(self.logprobs) if with_logprobs else None,
        )

    def _message(self) -> AnswerMessage:
        """``content`` is a string unless there are calls and no words."""
        content, reasoning = "".join(self.content), "".join(self.reasoning) or UNSET
        return AnswerMessage(
            content=content if content or not self.calls else None,
            reasoning_content=reasoning,
            reasoning=reasoning,
            tool_calls=tuple(_call(call) for _, call in sorted(self.calls.items())) or UNSET,
        )


def completion(
    head: AnswerHead,
    answers: Sequence[Answer],
    finished: Sequence[ChatFinished],
    total_seconds: float,
    with_logprobs: bool,
) -> Completion:
    ends = zip(answers, finished, strict=True)
    return Completion(
        id=head.request_id,
        created=head.created_unix_seconds,
        model=head.model,
        system_fingerprint=finished[0].system_fingerprint,
        choices=tuple(answer.choice(index, end, with_logprobs) for index, (answer, end) in enumerate(ends)),
        usage=usage_body(usage_of_all(finished)),
        moontide=extension(head.trace_id, head.request_id, finished[0], total_seconds),
    )


def _call(call: ToolCallDelta) -> AnswerCall:
    function = AnswerFunction(name=call.name, arguments=call.arguments)
    return AnswerCall(id=call.id, function=function, incomplete=call.incomplete or UNSET)


def logprobs_body(items: Sequence[ContentLogprob]) -> Logprobs:
    return Logprobs(content=tuple(_logprob(item) for item in items))


def _logprob(item: ContentLogprob) -> LogprobBody:
    chosen = _token(item.chosen)
    return LogprobBody(
        token=chosen.token,
        logprob=chosen.logprob,
        bytes=chosen.bytes,
        top_logprobs=tuple(_token(other) for other in item.top),
    )


def _token(item: TokenLogprob) -> TopLogprob:
    """A token need not be whole characters: its bytes say what it is."""
    return TopLogprob(token=item.data.decode(errors="replace"), logprob=item.logprob, bytes=tuple(item.data))
