"""What a model reads of a result: head and tail of what is too long, the whole kept for people.

Input: parts of any length. Output: parts of bounded length, and files. Must not know tools.
"""

from collections.abc import Sequence

from schemas.chat import MediaPart, Part, TextPart
from schemas.tools import ToolFile
from shared.blobs.store import BlobStore

HEAD_CHARACTERS = 16_000
TAIL_CHARACTERS = 8_000
MAX_CHARACTERS = HEAD_CHARACTERS + TAIL_CHARACTERS
"""Of all texts of one result together: some 8,000 tokens."""
MAX_MEDIA = 8
MAX_FILES = 64
WHOLE = "output.txt"


async def bounded(
    parts: Sequence[Part], files: Sequence[ToolFile], blobs: BlobStore
) -> tuple[tuple[Part, ...], tuple[ToolFile, ...]]:
    """(content, files). A text that was cut says so and names the file that holds the whole."""
    text = "\n".join(part.text for part in parts if isinstance(part, TextPart))
    media = [part for part in parts if isinstance(part, MediaPart)]
    kept = list(files[: MAX_FILES - 1])
    if len(text) > MAX_CHARACTERS:
        whole = await blobs.put(text.encode("utf-8", "replace"))
        kept.insert(0, ToolFile(name=WHOLE, media_type="text/plain", content=whole))
        text = shortened(text)
    if len(media) > MAX_MEDIA:
        text += f"\n[{len(media) - MAX_MEDIA} more pictures are not shown]"
    content: list[Part] = [TextPart(text=clean(text))] if text else []
    return (*content, *media[:MAX_MEDIA]), tuple(kept)


def shortened(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    left_out = len(text) - MAX_CHARACTERS
    note = f"\n[… {left_out} characters left out here; people find the whole as {WHOLE} …]\n"
    return text[:HEAD_CHARACTERS] + note + text[-TAIL_CHARACTERS:]


def clean(text: str) -> str:
    """Text that every reader can take: no half characters."""
    return text.encode("utf-8", "replace").decode()
