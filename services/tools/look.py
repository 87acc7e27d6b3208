"""``look``: an image or a video of the workspace is shown to the model.

Input: ``{path, question?}``. Output: what it is in words, the question, and the media part, whose bytes are a blob;
whoever prepares the prompt opens it. Must not know how media are decoded.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from schemas.blobs import BlobRef
from schemas.chat import MediaPart, TextPart
from schemas.media import MediaKind, MediaManifest
from services.tools import beneath
from services.tools.media_check import MediaCheck
from services.tools.media_format import HEAD_BYTES, media_format
from services.tools.tool import Call, Result, declared
from shared.blobs.store import BlobStore
from shared.errors import BadInput

MIB = 1024 * 1024
PIECE_BYTES = 1 * MIB
QUESTION_CHARS = 4000


@dataclass(frozen=True)
class Look:
    check: MediaCheck
    max_image_bytes: int = 32 * MIB
    max_video_bytes: int = 512 * MIB

    declaration = declared(
        "look",
        "Look at an image or video file of the workspace: it is shown to you with the result.",
        {
            "path": {"type": "string", "description": "Image or video, relative to the workspace, /workspace."},
            "question": {"type": "string", "description": "What to find out from it."},
        },
        required=("path",),
        workspace="read",
        timeout_seconds=300.0,
        expected_seconds=3.0,
    )

    async def run(self, call: Call) -> Result:
        """Raises BadInput (``look.not_media``, ``look.too_large``), or what ingest says of what it cannot open."""
        path, question = call.arguments["path"], call.arguments.get("question", "")[:QUESTION_CHARS]
        assert call.workspace is not None
        call.progress(f"looking at {path[:200]}")
        kind, media_type, source = await self._stored(call.blobs, call.workspace, path)
        part = MediaPart(kind=kind, source=source, name=path)
        manifest = await self.check(call.context, part)
        words = [f"{path}: {media_type}, {described(manifest)}", *([question] if question else [])]
        return Result(content=(TextPart(text="\n".join(words)), part))

    async def _stored(self, blobs: BlobStore, workspace: Path, path: str) -> tuple[MediaKind, str, BlobRef]:
        with beneath.file(workspace, path, os.O_RDONLY) as descriptor:
            head = await asyncio.to_thread(os.pread, descriptor, HEAD_BYTES, 0)
            known = media_format(head)
            if known is None:
                text = f"{path} is no image (png, jpeg, webp, gif) and no video that can be shown"
                raise BadInput("look.not_media", text, param="path")
            limit = self.max_image_bytes if known[0] == "image" else self.max_video_bytes
            size = os.fstat(descriptor).st_size
            if size > limit:
                text = f"{path} has {size} bytes, and a {known[0]} may have {limit}"
                raise BadInput("look.too_large", text, param="path")
            return *known, await _spooled(blobs, descriptor, limit)


async def _spooled(blobs: BlobStore, descriptor: int, limit: int) -> BlobRef:
    """In pieces, from the descriptor that was judged: whoever writes the file now changes nothing for others."""
    async with blobs.spool(limit) as spool:
        offset = 0
        while piece := await asyncio.to_thread(os.pread, descriptor, PIECE_BYTES, offset):
            await spool.write(piece)
            offset += len(piece)
    return spool.ref


def described(manifest: MediaManifest) -> str:
    size = f"{manifest.width}x{manifest.height} pixels"
    if manifest.kind == "image":
        return size
    return f"{size}, {manifest.duration_seconds or 0:.1f} seconds, shown as {len(manifest.frames)} frames"
