"""Durable runs: what is asked, the events of the ledger, commands to a run, and what people see of it.

A ledger is the list of ``LedgerEntry`` on one subject. Everything large (messages, results) is a content-addressed blob
that events point to. Replaying the events gives the state; nothing else is true.
"""

from typing import Literal

import msgspec

from schemas.blobs import BlobRef
from schemas.chat import Sampling, Usage
from schemas.failure import Failure
from schemas.request import Principal, RequestContext
from schemas.tools import ToolFile

RunKind = Literal["agent", "batch", "swarm"]
RunStatus = Literal["queued", "running", "waiting", "paused", "finished", "failed", "cancelled"]
"""queued → running ⇄ waiting (approval, quota, no model) ⇄ paused → finished, failed or cancelled."""
ContextStrategy = Literal["hide_tool_results", "summary", "discard_all"]


class RunBudget(msgspec.Struct, frozen=True, kw_only=True):
    """Hard: what would exceed one is not begun. None: no limit of this kind."""

    max_steps: int = 4000
    max_tokens: int | None = None
    """Prompt and completion of all model calls."""
    max_seconds: float = 12 * 3600.0
    max_cost_usd: float | None = None


class SeedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that the workspace begins with."""

    path: str
    content: BlobRef


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    kind: RunKind = "agent"
    model: str
    """As announced, without the variant's suffix."""
    messages: tuple[BlobRef, ...]
    """One msgpack-encoded ``Message`` each: the conversation that the run continues, the goal last."""
    title: str = ""
    """The goal, shortened, for lists."""
    tools: tuple[str, ...] | None = None
    """Names of the tools that may be used; None: all that are announced."""
    approvals: tuple[str, ...] = ()
    """Tools that wait for a person's decision, beside those declared so."""
    thinking: bool = True
    sampling: Sampling = Sampling()
    budget: RunBudget = RunBudget()
    context_strategy: ContextStrategy = "hide_tool_results"
    files: tuple[SeedFile, ...] = ()
    repository: BlobRef | None = None
    """A git bundle: the run works on its HEAD and ends with a patch."""


class RunOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """A fork: the ledger of ``run_id`` up to the end of ``step`` is this run's past. The messages of its own spec, if
    any, come after it."""

    run_id: str
    step: int


# ---- Events. Intent is written before its effect, the result after it.


class RunAccepted(msgspec.Struct, frozen=True, kw_only=True, tag="run.accepted"):
    """First of every ledger, appended with expected sequence 0."""

    context: RequestContext
    spec: RunSpec
    origin: RunOrigin | None = None


class LeaseTaken(msgspec.Struct, frozen=True, kw_only=True, tag="lease.taken"):
    """A new owner. Being appended it moves the last sequence, so that nothing of an older owner can be appended."""

    owner: str
    term: int
    """Counts owners from 1."""


class ModelAsked(msgspec.Struct, frozen=True, kw_only=True, tag="model.asked"):
    step: int
    """Counts from 1."""
    attempt: int = 1
    message_count: int
    """Messages of the conversation that the request shows, before reductions."""
    purpose: Literal["step", "summary"] = "step"
    """summary: the model is asked to sum up the past; ``ContextReduced`` is the answer."""


class ModelAnswered(msgspec.Struct, frozen=True, kw_only=True, tag="model.answered"):
    step: int
    message: BlobRef
    """The assistant's ``Message``."""
    usage: Usage
    finish_reason: str
    cost_usd: float = 0.0
    seconds: float = 0.0
    tool_calls: int = 0
    system_fingerprint: str = ""


class ModelFailed(msgspec.Struct, frozen=True, kw_only=True, tag="model.failed"):
    """The call of this attempt is over without an answer; it is asked again, or the run ends."""

    step: int
    attempt: int = 1
    failure: Failure


class ToolAsked(msgspec.Struct, frozen=True, kw_only=True, tag="tool.asked"):
    step: int
    call_id: str
    """``<run>-<step>-<index>``: the job's idempotency key."""
    tool_call_id: str
    """As the model called it."""
    tool: str
    arguments: BlobRef
    needs_approval: bool = False


class ToolDecided(msgspec.Struct, frozen=True, kw_only=True, tag="tool.decided"):
    """A person's word on a call that waits for one."""

    call_id: str
    approved: bool
    note: str = ""
    command_id: str = ""


class ToolAnswered(msgspec.Struct, frozen=True, kw_only=True, tag="tool.answered"):
    step: int
    call_id: str
    message: BlobRef
    """The tool's ``Message``."""
    files: tuple[ToolFile, ...] = ()
    failure: Failure | None = None
    workspace: BlobRef | None = None
    session: BlobRef | None = None
    """None where the call left it as it was."""
    possibly_repeated: bool = False
    seconds: float = 0.0


class MessageAdded(msgspec.Struct, frozen=True, kw_only=True, tag="message.added"):
    """Somebody steers, or the coordinator tells the model something (a repeated call, little budget left)."""

    message: BlobRef
    author: Literal["person", "coordinator"] = "person"
    command_id: str = ""


class ContextReduced(msgspec.Struct, frozen=True, kw_only=True, tag="context.reduced"):
    """From here on requests show less of the past; the ledger keeps all of it."""

    strategy: ContextStrategy
    through_step: int
    """hide_tool_results: results of steps up to this one. The others: every message up to this step."""
    summary: BlobRef | None = None
    """The ``Message`` in their place."""
    usage: Usage | None = None
    cost_usd: float = 0.0


class RunWaiting(msgspec.Struct, frozen=True, kw_only=True, tag="run.waiting"):
    """A visible state: what for, in our words."""

    failure: Failure
    """``run.approval``, or what the model's side refused with (a quota, no responder)."""
    until_unix_seconds: float | None = None


class RunPaused(msgspec.Struct, frozen=True, kw_only=True, tag="run.paused"):
    command_id: str = ""


class RunResumed(msgspec.Struct, frozen=True, kw_only=True, tag="run.resumed"):
    """After a pause or a wait."""

    command_id: str = ""


class RunEnded(msgspec.Struct, frozen=True, kw_only=True, tag="run.ended"):
    """Last of every ledger; nothing is appended after it."""

    outcome: Literal["finished", "failed", "cancelled"]
    answer: BlobRef | None = None
    """The assistant's last ``Message``."""
    failure: Failure | None = None
    """Why it failed, or which budget ended it."""
    files: tuple[ToolFile, ...] = ()
    """What the run leaves: the patch of its repository, for one."""
    command_id: str = ""


RunEvent = (
    RunAccepted
    | LeaseTaken
    | ModelAsked
    | ModelAnswered
    | ModelFailed
    | ToolAsked
    | ToolDecided
    | ToolAnswered
    | MessageAdded
    | ContextReduced
    | RunWaiting
    | RunPaused
    | RunResumed
    | RunEnded
)


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True, tag="ledger.entry"):
    """One append: all events of a moment, together or not at all."""

    entry_id: str
    """The writer's own, to recognise it after an unknown acknowledgement."""
    run_id: str
    owner: str
    term: int
    """0: the entry that accepts the run."""
    time_unix_seconds: float
    events: tuple[RunEvent, ...]


class LeaseBeat(msgspec.Struct, frozen=True, kw_only=True, tag="lease.beat"):
    """The owner lives. Kept for a few seconds; a run without one may be taken over."""

    run_id: str
    owner: str
    term: int


class RunWake(msgspec.Struct, frozen=True, kw_only=True, tag="run.wake"):
    """On the work queue ``MOONTIDE_RUNS``: somebody should take care of this run."""

    run_id: str


# ---- Commands: durable in a log of their own, taken by the owner in order, each exactly once.


class SteerRun(msgspec.Struct, frozen=True, kw_only=True, tag="run.steer"):
    message: BlobRef
    interrupt: bool = False
    """Give up the model call in flight instead of waiting for its answer."""


class PauseRun(msgspec.Struct, frozen=True, kw_only=True, tag="run.pause"):
    reason: str = ""


class ResumeRun(msgspec.Struct, frozen=True, kw_only=True, tag="run.resume"):
    reason: str = ""


class StopRun(msgspec.Struct, frozen=True, kw_only=True, tag="run.stop"):
    reason: str = ""


class DecideTool(msgspec.Struct, frozen=True, kw_only=True, tag="run.decide"):
    call_id: str
    approved: bool
    note: str = ""


RunCommandBody = SteerRun | PauseRun | ResumeRun | StopRun | DecideTool


class RunCommand(msgspec.Struct, frozen=True, kw_only=True, tag="run.command"):
    command_id: str
    run_id: str
    principal: Principal
    body: RunCommandBody


# ---- Questions to any coordinator, answered from the ledger. A run of another tenant is not found.


class RunSubmitted(msgspec.Struct, frozen=True, kw_only=True, tag="runs.submit"):
    """Reply: ``RunSummary``, once ``RunAccepted`` is in the ledger. Sent twice with one ``run_id``: one run."""

    run_id: str
    context: RequestContext
    spec: RunSpec
    origin: RunOrigin | None = None


class RunQuery(msgspec.Struct, frozen=True, kw_only=True, tag="runs.get"):
    """Reply: ``RunSummary``."""

    run_id: str
    principal: Principal


class RunsQuery(msgspec.Struct, frozen=True, kw_only=True, tag="runs.list"):
    """Reply: ``RunsListed``, newest first."""

    principal: Principal
    limit: int = 100
    before: str = ""
    """Only runs older than this run id."""
    status: RunStatus | None = None


class EntriesQuery(msgspec.Struct, frozen=True, kw_only=True, tag="runs.entries"):
    """Reply: ``EntriesListed``."""

    run_id: str
    principal: Principal
    after_sequence: int = 0
    limit: int = 256


class PendingApproval(msgspec.Struct, frozen=True, kw_only=True):
    call_id: str
    tool: str
    arguments: BlobRef


class RunSummary(msgspec.Struct, frozen=True, kw_only=True, tag="run.summary"):
    run_id: str
    kind: RunKind
    status: RunStatus
    model: str
    title: str
    principal: Principal
    created_unix_seconds: float
    updated_unix_seconds: float
    trace_id: str = ""
    step: int = 0
    usage: Usage = Usage(prompt_tokens=0, completion_tokens=0)
    cost_usd: float = 0.0
    owner: str = ""
    term: int = 0
    waiting: Failure | None = None
    approvals: tuple[PendingApproval, ...] = ()
    answer: BlobRef | None = None
    failure: Failure | None = None
    files: tuple[ToolFile, ...] = ()
    workspace: BlobRef | None = None
    """The run's last ``WorkspaceTree``; None: no call has written one."""
    origin: RunOrigin | None = None
    last_sequence: int = 0


class RunsListed(msgspec.Struct, frozen=True, kw_only=True, tag="runs.listed"):
    runs: tuple[RunSummary, ...]
    more: bool = False


class NumberedEntry(msgspec.Struct, frozen=True, kw_only=True, tag="ledger.numbered"):
    """An entry with its place in its stream: it grows within a run, and has gaps. Also sent live."""

    sequence: int
    entry: LedgerEntry


class EntriesListed(msgspec.Struct, frozen=True, kw_only=True, tag="runs.entries_listed"):
    entries: tuple[NumberedEntry, ...]
    more: bool = False


class CommandStored(msgspec.Struct, frozen=True, kw_only=True, tag="runs.command_stored"):
    """Reply to a ``RunCommand``: it is durable, and will be taken."""

    command_id: str


class RunDelta(msgspec.Struct, frozen=True, kw_only=True, tag="run.delta"):
    """Live only: a piece of the answer in flight, or a tool's progress. The ledger has the whole later."""

    run_id: str
    step: int
    attempt: int = 1
    reasoning: str = ""
    content: str = ""
    reasoning_start: int = 0
    """Characters of the attempt's reasoning before ``reasoning``: who missed some notices."""
    content_start: int = 0
    call_id: str = ""
    progress: str = ""


RunLive = NumberedEntry | RunDelta
