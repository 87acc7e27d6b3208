"""``fetch``: a page of the web, or a file of the local index, as text that the model can read.

Input: ``{url, start?}``. Output: what it is, in one line, then its text, cut at a limit and whole as a file for
people. What is no text (images, archives, PDF) is named and refused before it is read. Must not know how addresses
are judged.
"""

import codecs
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from schemas.chat import TextPart
from schemas.tools import ToolFile
from services.tools.http import Web, WebAnswer
from services.tools.page_reader import read_page
from services.tools.tool import Call, Result, declared
from shared.errors import BadInput, Unavailable

LOCAL = "local:"
HTML = frozenset(("text/html", "application/xhtml+xml"))
TEXT = frozenset(
    (
        "application/json",
        "application/ld+json",
        "application/xml",
        "application/rss+xml",
        "application/atom+xml",
        "application/javascript",
        "application/x-javascript",
        "application/ecmascript",
        "application/yaml",
        "application/x-yaml",
        "application/toml",
        "application/x-sh",
        "application/x-ndjson",
        "application/x-httpd-php",
        "application/sql",
        "image/svg+xml",
    )
)
SAMPLE_BYTES = 4096

ReadLocal = Callable[[str], Awaitable["Document"]]
"""From a ``local:`` address to its document. Raises NotFound."""


@dataclass(frozen=True)
class Document:
    url: str
    title: str
    media_type: str
    text: str
    truncated: bool = False


@dataclass(frozen=True)
class Fetch:
    web: Web
    read_local: ReadLocal | None = None
    max_chars: int = 20_000

    declaration = declared(
        "fetch",
        "Read a web page or text file by its address. Answers its readable text with links.",
        {
            "url": {"type": "string", "description": "http(s) address, or a local: address from web_search."},
            "start": {"type": "integer", "minimum": 0, "description": "Continue a long text at this character."},
        },
        required=("url",),
        timeout_seconds=90.0,
        expected_seconds=3.0,
    )

    async def run(self, call: Call) -> Result:
        url = call.arguments["url"].strip()
        call.progress(f"reading {url[:200]}")
        document = await self._document(url)
        return await self._told(call, document, call.arguments.get("start", 0))

    async def _document(self, url: str) -> Document:
        if not url.startswith(LOCAL):
            return await document(await self.web.get(url, check=readable))
        if self.read_local is None:
            raise BadInput("fetch.no_index", "no local folders are indexed here", param="url")
        return await self.read_local(url)

    async def _told(self, call: Call, found: Document, start: int) -> Result:
        shown = found.text[start : start + self.max_chars]
        end = start + len(shown)
        head = [found.url, found.media_type or "text", f"{len(found.text)} characters"]
        lines = [" · ".join(head), *([f"# {found.title}"] if found.title and start == 0 else []), "", shown]
        if end < len(found.text):
            lines.append(f"\n[cut here: continue with start={end}]")
        elif found.truncated:
            lines.append("\n[the document is longer than what is read of one]")
        files: tuple[ToolFile, ...] = ()
        if len(shown) < len(found.text):
            whole = await call.blobs.put(found.text.encode())
            files = (ToolFile(name=_file_name(found.url), media_type="text/plain", content=whole),)
        return Result(content=(TextPart(text="\n".join(lines)),), files=files)


def readable(answer: WebAnswer) -> None:
    """Refuses, before its body is read, what is no answer and what is no text."""
    if answer.status in (429, 503) or answer.status >= 500:
        text = f"{answer.url} answers {answer.status} {answer.reason}: its server has trouble or wants to be left alone"
        raise Unavailable("fetch.status", text, param="url", status=502)
    if not 200 <= answer.status < 300:
        raise BadInput("fetch.status", f"{answer.url} answers {answer.status} {answer.reason}", param="url")
    if answer.media_type and not is_text(answer.media_type):
        size = f" of {answer.size_bytes} bytes" if answer.size_bytes is not None else ""
        raise BadInput("fetch.not_text", f"{answer.url} is {answer.media_type}{size}: only text is read", param="url")


def is_text(media_type: str) -> bool:
    return media_type.startswith("text/") or media_type in HTML | TEXT or media_type.endswith(("+json", "+xml"))


async def document(answer: WebAnswer) -> Document:
    """Raises BadInput for a body that is not the text that it was announced as."""
    if answer.media_type in HTML or (not answer.media_type and _looks_html(answer.body)):
        title, text = await read_page(answer.body, answer.charset, answer.url)
    else:
        title, text = "", plain(answer.body, answer.charset)
    return Document(answer.url, title[:300], answer.media_type, text, answer.truncated)


def plain(body: bytes, charset: str | None) -> str:
    """Raises BadInput(``fetch.not_text``) for what holds zero bytes."""
    if b"\0" in body[:SAMPLE_BYTES] and not body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadInput("fetch.not_text", "this is no text, whatever it was announced as", param="url")
    for name in (charset, "utf-16" if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"):
        try:
            return body.decode(name or "utf-8-sig")
        except (LookupError, UnicodeError):
            continue
    return body.decode("utf-8", "replace")


def _looks_html(body: bytes) -> bool:
    start = body[:SAMPLE_BYTES].lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html")) or b"<body" in start


def _file_name(url: str) -> str:
    name = url.split("?")[0].rstrip("/").rsplit("/", 1)[-1][:80]
    return f"{name or 'page'}.txt"
