"""One call of a tool, as the tools service would make it."""

from pathlib import Path
from typing import Any

from schemas.chat import TextPart
from schemas.request import RequestContext
from services.tools.tool import Call, Result
from shared.blobs.store import BlobStore


def call(folder: Path, *, workspace: Path | None = None, said: list[str] | None = None, **arguments: Any) -> Call:
    """Blobs lie in ``folder``; ``said`` gathers the progress."""
    return Call(
        call_id="run-a-1-0",
        run_id="run-a",
        context=RequestContext(request_id="request-1", deadline_unix_seconds=4e9),
        arguments=arguments,
        blobs=BlobStore.open(f"file://{folder}/blobs"),
        progress=(said if said is not None else []).append,
        workspace=workspace,
    )


def text_of(result: Result) -> str:
    return "\n".join(part.text for part in result.content if isinstance(part, TextPart))
