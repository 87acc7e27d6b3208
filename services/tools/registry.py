"""Tools by name, each described once: its declaration is what models see, what arguments are checked against, and what
the documentation is made of.

Input: tools. Output: declarations, and a tool with checked arguments for a call. Must not know jobs or the bus.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from schemas.tools import ToolDeclaration
from services.tools.tool import Tool
from shared.errors import BadInput
from shared.language.tool_arguments import Check, arguments_check

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9-_]{2,63}")
RESERVED = "$"
"""First character of tools that are never listed: coordinators know them."""
MAX_TOOLS = 512
MAX_LISTED_BYTES = 512 * 1024
"""Of all declarations: their list travels in one message."""


class Registry:
    """Tools may come and go while the process runs (an MCP server's do)."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self._checks: dict[str, Check] = {}
        self._listed_bytes = 0
        for tool in tools:
            self.add(tool)

    def add(self, tool: Tool) -> None:
        """Raises BadInput(``tools.declaration``) for a name that is taken or no name, a schema that is none, or one
        tool too many."""
        declaration = tool.declaration
        name = declaration.name
        if not NAME.fullmatch(name.removeprefix(RESERVED)):
            raise _bad(name, "is no name for a tool")
        if name in self._tools:
            raise _bad(name, "is there already")
        size = len(declaration.parameters) + len(declaration.description)
        if len(self._tools) >= MAX_TOOLS or self._listed_bytes + size > MAX_LISTED_BYTES:
            raise _bad(name, "is one tool more than can be listed")
        self._checks[name] = _check(declaration)
        self._tools[name] = tool
        self._listed_bytes += size

    def remove(self, name: str) -> None:
        """Nothing happens if it is not there."""
        tool = self._tools.pop(name, None)
        if tool is not None:
            del self._checks[name]
            self._listed_bytes -= len(tool.declaration.parameters) + len(tool.declaration.description)

    def declarations(self) -> tuple[ToolDeclaration, ...]:
        """Sorted by name, so that equal sets of tools make equal prompts."""
        names = sorted(name for name in self._tools if not name.startswith(RESERVED))
        return tuple(self._tools[name].declaration for name in names)

    def find(self, name: str) -> Tool:
        """By its name. Raises BadInput(``tool.unknown``), whose text says which ones there are."""
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join(declaration.name for declaration in self.declarations())
            raise BadInput(
                "tool.unknown", f"there is no tool called {name[:64]!r}; there are: {known}", param=name[:64]
            )
        return tool

    def arguments(self, tool: Tool, data: bytes) -> dict[str, Any]:
        """The JSON object in ``data``. Raises BadInput(``tool.arguments``) saying in words what does not fit."""
        name = tool.declaration.name
        text = data.decode("utf-8", "replace") or "{}"
        reason = self._checks[name](text)
        if reason is not None:
            raise BadInput("tool.arguments", f"the arguments of {name!r} do not fit: {reason}", param=name)
        return msgspec.json.decode(text)


def _check(declaration: ToolDeclaration) -> Check:
    try:
        schema = msgspec.json.decode(declaration.parameters)
        return arguments_check(schema, f"tool {declaration.name}")
    except (msgspec.MsgspecError, ValueError) as error:
        raise _bad(declaration.name, "has parameters that are no JSON") from error


def _bad(name: str, reason: str) -> BadInput:
    return BadInput("tools.declaration", f"tool {name[:64]!r} {reason}", param=name[:64])
