"""What a server answers, as a tool's result.

Input: the SDK's content blocks. Output: text for the model, images to be shown, files for people. Audio, resources
and whatever is no text are kept as files and named. One of the files that know the ``mcp`` SDK. Must not know
connections.
"""

import base64
import binascii
import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass, field

import mcp_types as types
import msgspec

from schemas.chat import MediaPart, Part, TextPart
from schemas.tools import ToolFile
from services.tools.mcp.discovery import Hints, ListedTool
from services.tools.media_format import media_format
from services.tools.tool import Result
from shared.blobs.store import BlobStore
from shared.errors import BadInput, Unavailable
from shared.language.tool_arguments import arguments_check

MAX_BLOCKS = 256
MAX_BYTES = 16 * 1024 * 1024
"""Of all that is not text."""
ERROR_CHARS = 4000


async def result(tool: ListedTool, answer: types.CallToolResult, blobs: BlobStore) -> Result:
    """Raises BadInput(``mcp.tool_error``) with the server's words where the tool says that it failed, Unavailable
    (``mcp.bad_result``) where structured content is not what the server declares."""
    told = _Told(tool.name, blobs)
    for block in answer.content[:MAX_BLOCKS]:
        await told.add(block)
    if len(answer.content) > MAX_BLOCKS:
        told.say(f"[{len(answer.content) - MAX_BLOCKS} more parts are left out]")
    if answer.is_error:
        words = told.text or "the tool failed and does not say why"
        raise BadInput("mcp.tool_error", words[:ERROR_CHARS])
    if answer.structured_content is not None:
        structured = msgspec.json.encode(answer.structured_content).decode()
        _check_structured(tool, structured)
        if not told.text:
            told.say(structured)
    return told.result()


def listed(tool: types.Tool) -> ListedTool:
    said = tool.annotations or types.ToolAnnotations()
    return ListedTool(
        name=tool.name,
        title=tool.title or said.title or "",
        description=tool.description or "",
        parameters=tool.input_schema,
        returns=tool.output_schema,
        hints=Hints(read_only=said.read_only_hint, destructive=said.destructive_hint, idempotent=said.idempotent_hint),
    )


def _check_structured(tool: ListedTool, structured: str) -> None:
    """Our own check, since regular expressions of a server's schema would be run by the SDK's."""
    if tool.returns is None:
        return
    try:
        problem = arguments_check(tool.returns, tool.name)(structured)
    except BadInput:
        return  # a schema that is none promises nothing
    if problem is not None:
        text = f"the server's result of {tool.name} is not what it declares: {problem[:300]}"
        raise Unavailable("mcp.bad_result", text, status=502)


@dataclass
class _Told:
    """A result as it grows."""

    tool: str
    blobs: BlobStore
    words: list[str] = field(default_factory=list)
    shown: list[Part] = field(default_factory=list)
    files: list[ToolFile] = field(default_factory=list)
    bytes_left: int = MAX_BYTES

    @property
    def text(self) -> str:
        return "\n".join(self.words)

    def say(self, words: str) -> None:
        self.words.append(words)

    def result(self) -> Result:
        text = self.text or ("" if self.shown else "(the tool has nothing to say)")
        parts: Sequence[Part] = [TextPart(text=text), *self.shown] if text else self.shown
        return Result(content=tuple(parts), files=tuple(self.files))

    async def add(self, block: types.ContentBlock) -> None:
        if isinstance(block, types.TextContent):
            self.say(block.text)
        elif isinstance(block, types.ImageContent):
            await self._bytes("image", block.data, block.mime_type, "")
        elif isinstance(block, types.AudioContent):
            await self._bytes("audio", block.data, block.mime_type, "")
        elif isinstance(block, types.ResourceLink):
            about = " · ".join(filter(None, (block.title or block.name, block.mime_type, block.description)))
            self.say(f"[resource {block.uri}: {about}]")
        elif isinstance(block.resource, types.TextResourceContents):
            self.say(f"[resource {block.resource.uri}]\n{block.resource.text}")
        else:
            held = block.resource
            await self._bytes("resource", held.blob, held.mime_type or "", held.uri)

    async def _bytes(self, kind: str, data: str, media_type: str, uri: str) -> None:
        """Pictures by their bytes are shown; the rest is kept for people."""
        try:
            content = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            self.say(f"[{kind} left out: it is not base64]")
            return
        self.bytes_left -= len(content)
        if self.bytes_left < 0:
            self.say(f"[{kind} of {len(content)} bytes left out: a result may hold {MAX_BYTES}]")
            return
        known = media_format(content)
        media_type = known[1] if known is not None else media_type or "application/octet-stream"
        name = f"{self.tool}-{len(self.files) + 1}{mimetypes.guess_extension(media_type) or ''}"
        source = await self.blobs.put(content)
        self.files.append(ToolFile(name=name, media_type=media_type, content=source))
        where = f" {uri}" if uri else ""
        if known is not None and known[0] == "image":
            self.shown.append(MediaPart(kind="image", source=source, name=name))
            self.say(f"[{kind}{where}: {name}]")
        else:
            self.say(f"[{kind}{where} of {len(content)} bytes, {media_type}: kept as {name}]")
