"""The events of a run as ``/v1/runs/{id}/events`` shows them: the ledger's, with messages in place of references.

Pure. ``type`` is the event's name in the ledger. It must not know where messages are kept.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from schemas.chat import Usage
from schemas.failure import Failure
from schemas.runs import ContextStrategy, RunBudget


class ErrorView(Struct, frozen=True, kw_only=True):
    code: str
    message: str
    retry_after_seconds: float | None = None


class FileView(Struct, frozen=True, kw_only=True):
    name: str
    media_type: str
    size_bytes: int
    url: str
    """Path below the gateway."""


class CallView(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    arguments: str


class MessageView(Struct, frozen=True, kw_only=True):
    role: str
    content: str
    """All text parts together; media are in the event's ``files``."""
    reasoning_content: str | UnsetType = UNSET
    tool_calls: tuple[CallView, ...] | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET
    truncated: bool | UnsetType = UNSET
    """True: too long for a stream; ``GET /v1/runs/{id}/events/{event}`` has all of it."""
    expired: bool | UnsetType = UNSET
    """True: the message has outlived its lifetime in the blob store."""


class RunUsage(Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    media_tokens: int = 0


class BudgetView(Struct, frozen=True, kw_only=True):
    max_steps: int
    max_tokens: int | None
    max_seconds: float
    max_cost_usd: float | None


class EventBody(Struct, frozen=True, kw_only=True, tag_field="type"):
    """``id`` is where a reader resumes: the entry's sequence in the ledger, with the event's place inside it behind a
    dot where further events of that entry follow."""

    id: str
    run_id: str
    time_unix_seconds: float


class AcceptedBody(EventBody, frozen=True, kw_only=True, tag="run.accepted"):
    kind: str
    model: str
    title: str
    messages: tuple[MessageView, ...]
    tools: tuple[str, ...] | None
    approvals: tuple[str, ...]
    thinking: bool
    budget: BudgetView
    context_strategy: ContextStrategy
    files: tuple[FileView, ...]
    trace_id: str
    forked_from: str | None
    fork_step: int | None


class LeaseBody(EventBody, frozen=True, kw_only=True, tag="lease.taken"):
    owner: str
    term: int


class AskedBody(EventBody, frozen=True, kw_only=True, tag="model.asked"):
    step: int
    attempt: int
    message_count: int
    purpose: Literal["step", "summary"]


class AnsweredBody(EventBody, frozen=True, kw_only=True, tag="model.answered"):
    step: int
    message: MessageView
    usage: RunUsage
    finish_reason: str
    cost_usd: float
    seconds: float
    tool_calls: int
    system_fingerprint: str
    files: tuple[FileView, ...]


class ModelFailedBody(EventBody, frozen=True, kw_only=True, tag="model.failed"):
    step: int
    attempt: int
    error: ErrorView


class ToolAskedBody(EventBody, frozen=True, kw_only=True, tag="tool.asked"):
    step: int
    call_id: str
    tool_call_id: str
    tool: str
    arguments: str
    """JSON, as the model wrote it."""
    truncated: bool
    needs_approval: bool


class ToolDecidedBody(EventBody, frozen=True, kw_only=True, tag="tool.decided"):
    call_id: str
    approved: bool
    note: str
    command_id: str


class ToolAnsweredBody(EventBody, frozen=True, kw_only=True, tag="tool.answered"):
    step: int
    call_id: str
    message: MessageView
    files: tuple[FileView, ...]
    error: ErrorView | None
    possibly_repeated: bool
    seconds: float


class MessageAddedBody(EventBody, frozen=True, kw_only=True, tag="message.added"):
    author: Literal["person", "coordinator"]
    message: MessageView
    command_id: str
    files: tuple[FileView, ...]


class ReducedBody(EventBody, frozen=True, kw_only=True, tag="context.reduced"):
    strategy: ContextStrategy
    through_step: int
    summary: MessageView | None
    usage: RunUsage | None
    cost_usd: float


class WaitingBody(EventBody, frozen=True, kw_only=True, tag="run.waiting"):
    error: ErrorView
    """What for."""
    until_unix_seconds: float | None


class PausedBody(EventBody, frozen=True, kw_only=True, tag="run.paused"):
    command_id: str


class ResumedBody(EventBody, frozen=True, kw_only=True, tag="run.resumed"):
    command_id: str


class EndedBody(EventBody, frozen=True, kw_only=True, tag="run.ended"):
    """The last event of every run."""

    outcome: Literal["finished", "failed", "cancelled"]
    answer: MessageView | None
    error: ErrorView | None
    files: tuple[FileView, ...]
    command_id: str


class DeltaBody(Struct, frozen=True, kw_only=True, tag_field="type", tag="run.delta", omit_defaults=True):
    """Live only, without an id: pieces of the answer in flight, or a tool's progress."""

    run_id: str
    step: int
    attempt: int = 1
    reasoning: str = ""
    content: str = ""
    reasoning_start: int = 0
    """Characters of the step's reasoning before ``reasoning``: who missed some notices."""
    content_start: int = 0
    call_id: str = ""
    progress: str = ""


LedgerEventBody = (
    AcceptedBody
    | LeaseBody
    | AskedBody
    | AnsweredBody
    | ModelFailedBody
    | ToolAskedBody
    | ToolDecidedBody
    | ToolAnsweredBody
    | MessageAddedBody
    | ReducedBody
    | WaitingBody
    | PausedBody
    | ResumedBody
    | EndedBody
)
StreamedEvent: Any = LedgerEventBody | DeltaBody


def event_id(sequence: int, index: int, count: int) -> str:
    """Of event ``index`` of ``count`` in one entry."""
    return str(sequence) if index == count - 1 else f"{sequence}.{index + 1}"


class Cut(msgspec.Struct, frozen=True):
    """What a reader has: every entry through ``sequence``, and ``events`` events of the next one."""

    sequence: int
    events: int = 0


def cut_at(identifier: str) -> Cut:
    """Behind the event of that id. Raises ValueError."""
    sequence, dot, place = identifier.partition(".")
    numbers = [sequence, place] if dot else [sequence]
    if not all(number.isascii() and number.isdigit() and len(number) <= 18 for number in numbers):
        raise ValueError(identifier)
    return Cut(int(sequence) - 1, int(place)) if dot else Cut(int(sequence))


def usage_view(usage: Usage) -> RunUsage:
    return RunUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        media_tokens=usage.media_tokens,
    )


def budget_view(budget: RunBudget) -> BudgetView:
    return BudgetView(
        max_steps=budget.max_steps,
        max_tokens=budget.max_tokens,
        max_seconds=budget.max_seconds,
        max_cost_usd=budget.max_cost_usd,
    )


def error_view(failure: Failure) -> ErrorView:
    return ErrorView(code=failure.code, message=failure.message, retry_after_seconds=failure.retry_after_seconds)
