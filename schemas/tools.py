"""Tool calls as jobs on the work queue ``MOONTIDE_TOOLS``: a step from (workspace, session, arguments) to a result.

Workspace and session travel as references to content-addressed state, and the result names the new ones. So a job that
is delivered twice changes nothing twice: an effect inside the workspace counts once its result is in the ledger.
"""

from typing import Literal

import msgspec

from schemas.blobs import BlobRef, Payload
from schemas.chat import Part
from schemas.failure import Failure
from schemas.request import Principal, RequestContext

ToolEffect = Literal["none", "workspace", "keyed", "outside"]
"""none: reads only. workspace: changes workspace or session, which the result carries. keyed: changes the outside
world, which recognises the call id as an idempotency key. outside: changes the outside world without one."""

WorkspaceUse = Literal["none", "read", "write"]


class ToolDeclaration(msgspec.Struct, frozen=True, kw_only=True):
    """One tool as models, validation and documentation see it: described once, by whoever runs it."""

    name: str
    """``^[a-zA-Z_][a-zA-Z0-9-_]{2,63}$``, or ``$web_search``."""
    description: str
    parameters: bytes
    """JSON Schema of the arguments, an object."""
    effect: ToolEffect = "none"
    workspace: WorkspaceUse = "none"
    needs_approval: bool = False
    timeout_seconds: float = 60.0
    expected_seconds: float = 1.0
    """How long a call usually takes: announced to the engine as a pause."""


class ToolsQuery(msgspec.Struct, frozen=True, kw_only=True, tag="tools.query"):
    """Request on ``names.SUBJECT_TOOLS_LIST``."""

    principal: Principal = Principal()


class ToolsListed(msgspec.Struct, frozen=True, kw_only=True, tag="tools.listed"):
    tools: tuple[ToolDeclaration, ...]


class WorkspaceFile(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    """Relative, ``/`` between its parts, no ``..``."""
    content: BlobRef
    executable: bool = False
    link: str = ""
    """Target of a symbolic link; then ``content`` holds nothing."""


class WorkspaceTree(msgspec.Struct, frozen=True, kw_only=True, tag="workspace.tree"):
    """A whole workspace, stored as a blob of its own: equal trees are equal bytes. Sorted by path."""

    files: tuple[WorkspaceFile, ...] = ()
    directories: tuple[str, ...] = ()
    """Empty ones only."""


class ToolJob(msgspec.Struct, frozen=True, kw_only=True, tag="tool.requested"):
    """Coordinator to tools. ``call_id`` is one subject token and the idempotency key: equal ids, one outcome."""

    call_id: str
    context: RequestContext
    run_id: str
    tool: str
    arguments: Payload
    """JSON object."""
    workspace: BlobRef | None = None
    """A stored ``WorkspaceTree``; None: empty."""
    session: BlobRef | None = None
    """Variables of the run's Python session, as the last call left them; None: fresh."""
    repository: BlobRef | None = None
    """A git bundle that an empty workspace begins with."""


class ToolFile(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a tool made or showed, for people: images, patches, whole outputs."""

    name: str
    media_type: str
    content: BlobRef


class ToolProgress(msgspec.Struct, frozen=True, kw_only=True, tag="tool.progress"):
    """Every half second while somebody works on the call."""

    call_id: str
    text: str = ""


class ToolFinished(msgspec.Struct, frozen=True, kw_only=True, tag="tool.finished"):
    """The one outcome of a call, kept as record ``tool-outcomes/<call_id>`` before it is published."""

    call_id: str
    content: tuple[Part, ...] = ()
    """What the model reads: bounded; a cut output says so and is whole in ``files``."""
    files: tuple[ToolFile, ...] = ()
    failure: Failure | None = None
    """The tool did not do it; ``content`` tells the model so in words."""
    workspace: BlobRef | None = None
    session: BlobRef | None = None
    """None where the call left it as it was."""
    possibly_repeated: bool = False
    """An effect without an idempotency key may have happened more than once."""
    seconds: float = 0.0


class ToolCancelled(msgspec.Struct, frozen=True, kw_only=True, tag="tool.cancelled"):
    """Coordinator to whoever works on the call."""

    call_id: str
    reason: str = ""


ToolOutcome = ToolProgress | ToolFinished
