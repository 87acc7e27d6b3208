"""Tools as a table for people, made of the same declarations that models see; a test compares it with the README.
``python -m services.tools.documentation`` prints it.

Input: declarations. Output: markdown. Must not know how tools work.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from schemas.tools import ToolDeclaration
from services.tools.fetch import Fetch
from services.tools.files import EditFile, ListFiles, ReadFile, WriteFile
from services.tools.look import Look
from services.tools.patches import ApplyPatch, SearchFiles
from services.tools.python import Python
from services.tools.shell import Shell
from services.tools.web_search import WebSearch

BUILT_IN = (
    ApplyPatch,
    EditFile,
    Fetch,
    ListFiles,
    Look,
    Python,
    ReadFile,
    SearchFiles,
    Shell,
    WebSearch,
    WriteFile,
)
HEAD = ("| tool | arguments | effect | within | does |", "|---|---|---|---|---|")
EFFECTS = {
    "none": "none",
    "workspace": "workspace",
    "keyed": "outside, once",
    "outside": "outside, possibly repeated",
}


def table(declarations: Iterable[ToolDeclaration]) -> str:
    return "\n".join((*HEAD, *(row(declaration) for declaration in declarations)))


def row(declaration: ToolDeclaration) -> str:
    cells = (
        f"`{declaration.name}`",
        arguments(msgspec.json.decode(declaration.parameters)),
        EFFECTS[declaration.effect],
        f"{declaration.timeout_seconds:g} s",
        declaration.description.split(". ")[0].rstrip("."),
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def arguments(schema: dict[str, Any]) -> str:
    """Names in order; ``?`` after those that may be left out."""
    required = schema.get("required", [])
    names = (name if name in required else f"{name}?" for name in schema.get("properties", {}))
    return ", ".join(f"`{name}`" for name in names)


def built_in() -> list[ToolDeclaration]:
    """Every tool that this service has by itself and models may see; MCP servers bring theirs."""
    return sorted((tool.declaration for tool in BUILT_IN), key=lambda declaration: declaration.name)


def main() -> None:
    print(table(built_in()))


if __name__ == "__main__":
    main()
