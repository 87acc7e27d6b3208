"""From what a server says of its tools to what models are told of them. Pure.

Input: a tool as listed, and the server's configuration. Output: a declaration under our name, or nothing where the
configuration leaves it out. Hints are a server's own word: the configuration has the last one.
"""

import hashlib
import re
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from schemas.tools import ToolDeclaration, ToolEffect
from services.tools.mcp.config import McpServer, ToolOverride

NAME_CHARS = 64
DESCRIPTION_CHARS = 4000
_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]+")


class Hints(msgspec.Struct, frozen=True, kw_only=True):
    """None: the server says nothing."""

    read_only: bool | None = None
    destructive: bool | None = None
    idempotent: bool | None = None


class ListedTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool as its server lists it."""

    name: str
    title: str = ""
    description: str = ""
    parameters: dict[str, Any]
    returns: dict[str, Any] | None = None
    """JSON Schema of the structured content."""
    hints: Hints = Hints()


def declaration(server_name: str, server: McpServer, tool: ListedTool) -> ToolDeclaration | None:
    """None for a tool that is filtered out."""
    rules = server.tools
    if not _any(rules.include, tool.name) or _any(rules.exclude, tool.name):
        return None
    known = server.overrides.get(tool.name, ToolOverride())
    effect = known.effect or effect_of(tool.hints)
    approval = needs_approval(server, tool.hints) if known.needs_approval is None else known.needs_approval
    return ToolDeclaration(
        name=rules.rename.get(tool.name) or our_name(server_name, server, tool.name),
        description=(known.description or tool.description or tool.title or tool.name)[:DESCRIPTION_CHARS],
        parameters=msgspec.json.encode(tool.parameters),
        effect=effect,
        needs_approval=approval,
        timeout_seconds=known.timeout_seconds or server.timeout_seconds,
        expected_seconds=known.expected_seconds or server.expected_seconds,
    )


def effect_of(hints: Hints) -> ToolEffect:
    """A tool that says nothing may do anything. What is idempotent for equal arguments is so for a repeated call."""
    if hints.read_only:
        return "none"
    return "keyed" if hints.idempotent else "outside"


def needs_approval(server: McpServer, hints: Hints) -> bool:
    if server.approval == "hints":
        return bool(hints.destructive) and not hints.read_only
    return server.approval == "always" or (server.approval == "writes" and not hints.read_only)


def our_name(server_name: str, server: McpServer, tool_name: str) -> str:
    """``<server>_<tool>`` in the characters that a function's name may have. One that is too long is cut, and told
    apart by a hash of the whole."""
    prefix = f"{server_name}_" if server.tools.prefix is None else server.tools.prefix
    name = _FOREIGN.sub("_", f"{prefix}{tool_name}")
    if not re.match(r"[a-zA-Z_]", name):
        name = f"_{name}"
    if len(name) <= NAME_CHARS:
        return name
    return f"{name[: NAME_CHARS - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _any(patterns: tuple[str, ...], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
