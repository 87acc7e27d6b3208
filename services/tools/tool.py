"""What a tool is to the service that runs it: a declaration, and a coroutine from one call to one result.

Implementations live in files named after their tool. This module must not know queues, jobs or the bus.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from schemas.blobs import BlobRef
from schemas.chat import Part, TextPart
from schemas.codec import encode_json
from schemas.request import RequestContext
from schemas.tools import ToolDeclaration, ToolEffect, ToolFile, WorkspaceUse
from shared.blobs.store import BlobStore

Progress = Callable[[str], None]
"""Says what the call is at; the last text is sent twice a second."""


@dataclass(frozen=True)
class Call:
    """One call whose arguments have been checked against the declaration."""

    call_id: str
    """The idempotency key."""
    run_id: str
    context: RequestContext
    arguments: dict[str, Any]
    blobs: BlobStore
    progress: Progress
    workspace: Path | None = None
    """A folder of this call alone, where the declaration says ``read`` or ``write``."""
    """It belongs to the user that sandboxed programs have. Nobody else is in it while the call lasts."""
    session: BlobRef | None = None
    """State of the run's Python session."""
    repository: BlobRef | None = None
    """The git bundle that the run's workspace began with."""
    repeated: bool = False
    """An earlier delivery of this call may have had its effect."""


@dataclass(frozen=True)
class Result:
    """What the model reads and people see. A failure is raised, as one of our errors, and put into words elsewhere."""

    content: tuple[Part, ...]
    """Of any length: what is too long for a model is cut in the middle, and kept whole for people."""
    files: tuple[ToolFile, ...] = ()
    session: BlobRef | None = None
    shows_changes: bool = False
    """Files that the call made or changed in the workspace are shown to people, images among them to the model too."""


def said(text: str) -> Result:
    return Result(content=(TextPart(text=text),))


def declared(
    name: str,
    description: str,
    properties: dict[str, Any],
    *,
    required: tuple[str, ...] = (),
    effect: ToolEffect = "none",
    workspace: WorkspaceUse = "none",
    timeout_seconds: float = 60.0,
    expected_seconds: float = 1.0,
) -> ToolDeclaration:
    """A declaration whose arguments are an object of ``properties`` (JSON Schemas) and nothing else."""
    schema = {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}
    return ToolDeclaration(
        name=name,
        description=description,
        parameters=encode_json(schema),
        effect=effect,
        workspace=workspace,
        timeout_seconds=timeout_seconds,
        expected_seconds=expected_seconds,
    )


class Tool(Protocol):
    @property
    def declaration(self) -> ToolDeclaration: ...

    async def run(self, call: Call) -> Result:
        """Raises a MoontideError: BadInput where the model can do better, Unavailable where trying again can help.
        Cancelled from outside when nobody wants the result or its time is over; then nothing of it stays behind."""
        ...
