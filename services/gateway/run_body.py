"""The bodies of ``/v1/runs`` as typed structs: a new run, and what is said to one that goes on.

Input: JSON from clients. Output: structs. What their fields must keep to together is in ``run_rules``. It must not know
how a run is stored.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.runs import ContextStrategy
from services.gateway.chat_body import MAX_MESSAGES, MAX_STEPS, BudgetBody, Content, Count, MessageBody, Penalty

MAX_TOOLS = 128
MAX_FILES = 256

Text = Annotated[str, Meta(min_length=1, max_length=1 << 20)]
Note = Annotated[str, Meta(max_length=4096)]
FileId = Annotated[str, Meta(min_length=1, max_length=100)]
RunToolName = Annotated[str, Meta(pattern=r"^\$?[a-zA-Z_][a-zA-Z0-9_-]{0,63}$(?!\n)")]
Goal = Text | Annotated[list[Content], Meta(min_length=1, max_length=256)]


class RunThinking(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: Literal["enabled", "disabled"] = "enabled"


class RunFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    file_id: FileId
    """Of ``POST /v1/files``."""
    path: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    """In the workspace; its own name where none is given."""


class RunBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/runs``."""

    model: str
    """With or without ``-agent``."""
    kind: Literal["agent", "swarm"] = "agent"
    goal: Goal | None = None
    """What is to be done: text, or parts with media. Either this or ``messages``."""
    messages: Annotated[list[MessageBody], Meta(min_length=1, max_length=MAX_MESSAGES)] | None = None
    """A conversation that the run continues; the last message is the goal."""
    title: Annotated[str, Meta(max_length=200)] | None = None
    tools: Annotated[list[RunToolName], Meta(max_length=MAX_TOOLS)] | None = None
    """Names of the tools that may be used. Not given: all. Empty: none."""
    approvals: Annotated[list[RunToolName], Meta(max_length=MAX_TOOLS)] | None = None
    """Tools whose calls wait for a person, beside those that always do."""
    budget: BudgetBody | None = None
    context_strategy: ContextStrategy | None = None
    thinking: RunThinking | bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    max_tokens: Count | None = None
    """Of one model call."""
    files: Annotated[list[RunFile], Meta(max_length=MAX_FILES)] | None = None
    """What the workspace begins with."""
    repository: FileId | None = None
    """An uploaded git bundle: the run works on its HEAD and ends with a patch. Not together with ``files``."""


class SteerBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/runs/{id}/messages``."""

    content: Goal
    interrupt: bool = False
    """Give up the model call in flight instead of waiting for its answer."""


class ReasonBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of stop, pause and resume; the body may also be empty."""

    reason: Note = ""


class ApprovalBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/runs/{id}/approvals/{call_id}``."""

    approved: bool
    note: Note = ""
    """The model reads it when the call is denied."""


class ForkBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/runs/{id}/fork``: a new run whose past is this one's up to the end of ``step``."""

    step: Annotated[int, Meta(ge=0, le=MAX_STEPS)]
    goal: Goal | None = None
    """Said to the new run before it goes on."""
    title: Annotated[str, Meta(max_length=200)] | None = None
    tools: Annotated[list[RunToolName], Meta(max_length=MAX_TOOLS)] | None = None
    approvals: Annotated[list[RunToolName], Meta(max_length=MAX_TOOLS)] | None = None
    budget: BudgetBody | None = None
