"""Pieces of a run as OpenAI's objects: chunks of a stream, or one completion. Both are made of the same pieces.

Pure. It must not know HTTP.
"""

from collections.abc import Sequence

from msgspec import UNSET

from schemas.chat import ChatFinished
from services.gateway.agent_answer import Piece, ToolActivity
from services.gateway.answer import AnswerHead, chunk
from services.gateway.answer_body import (
    AnswerMessage,
    Choice,
    Chunk,
    ChunkChoice,
    Completion,
    Delta,
    RunFacts,
    extension,
    usage_body,
)

MAX_ACTIVITIES = 256
"""In a completion: the last ones, each call once."""


def piece_chunk(head: AnswerHead, piece: Piece) -> Chunk:
    reasoning = piece.reasoning or UNSET
    delta = Delta(
        content=piece.content or UNSET,
        reasoning_content=reasoning,
        reasoning=reasoning,
        tool_activity=(piece.tool,) if piece.tool is not None else UNSET,
        run_activity=piece.run if piece.run is not None else UNSET,
    )
    return chunk(head, ChunkChoice(index=0, delta=delta))


def agent_completion(
    head: AnswerHead, pieces: Sequence[Piece], finished: ChatFinished, facts: RunFacts, total_seconds: float
) -> Completion:
    reasoning = "".join(piece.reasoning for piece in pieces) or UNSET
    message = AnswerMessage(
        content="".join(piece.content for piece in pieces),
        reasoning_content=reasoning,
        reasoning=reasoning,
        tool_activity=activities(pieces) or UNSET,
    )
    return Completion(
        id=head.request_id,
        created=head.created_unix_seconds,
        model=head.model,
        system_fingerprint=finished.system_fingerprint,
        choices=(Choice(index=0, message=message, finish_reason=finished.finish_reason),),
        usage=usage_body(finished.usage),
        moontide=extension(head.trace_id, head.request_id, finished, total_seconds, facts),
        run_id=head.run_id,
    )


def activities(pieces: Sequence[Piece]) -> tuple[ToolActivity, ...]:
    """How each call ended, in the order of the calls."""
    calls: dict[str, ToolActivity] = {}
    for piece in pieces:
        if piece.tool is not None:
            calls[piece.tool.call_id] = _joined(calls.get(piece.tool.call_id), piece.tool)
    return tuple(calls.values())[-MAX_ACTIVITIES:]


def _joined(known: ToolActivity | None, new: ToolActivity) -> ToolActivity:
    if known is None:
        return new
    return ToolActivity(
        call_id=new.call_id,
        status=new.status,
        tool=known.tool or new.tool,
        arguments=known.arguments or new.arguments,
        text=new.text,
        files=new.files,
    )
