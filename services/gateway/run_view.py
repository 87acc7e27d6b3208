"""A run as ``/v1/runs`` shows it.

Input: ``RunSummary``. Output: ``RunObject``, with answer and arguments in place of references where one run is asked
for. It must not know HTTP.
"""

from typing import Literal
from urllib.parse import quote

from msgspec import UNSET, Struct, UnsetType

from schemas.runs import PendingApproval, RunKind, RunStatus, RunSummary
from services.gateway.message_view import Messages
from services.gateway.run_event_body import ErrorView, FileView, MessageView, RunUsage, error_view, usage_view

ANSWER_CHARACTERS = 1 << 20
ARGUMENT_CHARACTERS = 32 * 1024
OUTPUTS, WORKSPACE = "outputs", "workspace"


class ApprovalView(Struct, frozen=True, kw_only=True):
    """A call that waits for a person: ``POST /v1/runs/{id}/approvals/{call_id}``."""

    call_id: str
    tool: str
    arguments: str | UnsetType = UNSET
    """JSON; not in lists."""


class OriginView(Struct, frozen=True, kw_only=True):
    run_id: str
    step: int


class RunObject(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["run"] = "run"
    kind: RunKind
    status: RunStatus
    model: str
    title: str
    created_at: float
    """Unix seconds, as ``updated_at``."""
    updated_at: float
    trace_id: str
    step: int
    usage: RunUsage
    cost_usd: float
    owner: str
    """Which coordinator holds it."""
    term: int
    waiting: ErrorView | None
    """What for, while it waits."""
    approvals: tuple[ApprovalView, ...]
    answer: MessageView | UnsetType | None = UNSET
    """Not in lists."""
    error: ErrorView | None
    """Why it failed, or which budget ended it."""
    files: tuple[FileView, ...]
    """What it leaves; ``GET /v1/runs/{id}/files`` lists the workspace too."""
    forked_from: OriginView | None
    last_event_id: str


class RunList(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: tuple[RunObject, ...]
    has_more: bool
    """Then ``?after=`` the last one's id gives the next ones."""


class CommandObject(Struct, frozen=True, kw_only=True):
    """A command is stored, and will be taken; the event that it causes carries its id."""

    id: str
    object: Literal["run.command"] = "run.command"
    run_id: str


class RunFileList(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: tuple[FileView, ...]


async def run_object(summary: RunSummary, messages: Messages) -> RunObject:
    """Everything, the answer included."""
    shown = None
    if summary.answer is not None:
        shown = (await messages.shown(summary.answer, "assistant", ANSWER_CHARACTERS)).view
    approvals = [await _approval(pending, messages) for pending in summary.approvals]
    return _object(summary, tuple(approvals), shown)


def listed_run(summary: RunSummary) -> RunObject:
    """Without what would have to be read from the blob store."""
    approvals = tuple(ApprovalView(call_id=pending.call_id, tool=pending.tool) for pending in summary.approvals)
    return _object(summary, approvals, UNSET)


async def _approval(pending: PendingApproval, messages: Messages) -> ApprovalView:
    arguments = await messages.arguments(pending.arguments)
    return ApprovalView(call_id=pending.call_id, tool=pending.tool, arguments=arguments[:ARGUMENT_CHARACTERS])


def _object(
    summary: RunSummary, approvals: tuple[ApprovalView, ...], answer: MessageView | UnsetType | None
) -> RunObject:
    origin = summary.origin
    return RunObject(
        id=summary.run_id,
        kind=summary.kind,
        status=summary.status,
        model=summary.model,
        title=summary.title,
        created_at=summary.created_unix_seconds,
        updated_at=summary.updated_unix_seconds,
        trace_id=summary.trace_id,
        step=summary.step,
        usage=usage_view(summary.usage),
        cost_usd=summary.cost_usd,
        owner=summary.owner,
        term=summary.term,
        waiting=error_view(summary.waiting) if summary.waiting is not None else None,
        approvals=approvals,
        answer=answer,
        error=error_view(summary.failure) if summary.failure is not None else None,
        files=output_views(summary),
        forked_from=OriginView(run_id=origin.run_id, step=origin.step) if origin is not None else None,
        last_event_id=str(summary.last_sequence),
    )


def output_views(summary: RunSummary) -> tuple[FileView, ...]:
    return tuple(
        file_view(summary.run_id, f"{OUTPUTS}/{file.name}", file.media_type, file.content.size_bytes)
        for file in summary.files
    )


def file_view(run_id: str, name: str, media_type: str, size_bytes: int) -> FileView:
    url = f"/v1/runs/{run_id}/files/{quote(name)}"
    return FileView(name=name, media_type=media_type, size_bytes=size_bytes, url=url)
