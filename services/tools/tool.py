"""What a tool is to the service that runs it: a declaration, and a coroutine from one call to one result.

Implementations live in files named after their tool. This module must not know queues, jobs or the bus.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from schemas.blobs import BlobRef
from schemas.chat import Part
from schemas.request import RequestContext
from schemas.tools import ToolDeclaration, ToolFile
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
    session: BlobRef | None = None
    """State of the run's Python session."""
    repeated: bool = False
    """An earlier delivery of this call may have had its effect."""


@dataclass(frozen=True)
class Result:
    """What the model reads and people see. A failure is raised, as one of our errors, and put into words elsewhere."""

    content: tuple[Part, ...]
    files: tuple[ToolFile, ...] = ()
    session: BlobRef | None = None


class Tool(Protocol):
    @property
    def declaration(self) -> ToolDeclaration: ...

    async def run(self, call: Call) -> Result:
        """Raises a MoontideError: BadInput where the model can do better, Unavailable where trying again can help.
        Cancelled from outside when nobody wants the result or its time is over; then nothing of it stays behind."""
        ...
