"""The tools that need nothing but this machine: python, shell, files; and what their sandbox may use and not see.

Input: ``ToolsConfig``. Output: tools, bounds, folders. Must not know how any of them works.
"""

from pathlib import Path

from services.tools.config import ToolsConfig
from services.tools.files import EditFile, ListFiles, ReadFile, WriteFile
from services.tools.patches import ApplyPatch, SearchFiles
from services.tools.python import Python
from services.tools.repository import Patch
from services.tools.sandbox import Bounds, Sandbox
from services.tools.session import Sessions
from services.tools.shell import Shell
from services.tools.tool import Tool
from shared.blobs.store import BlobStore


def tools(config: ToolsConfig, sandbox: Sandbox, sessions: Sessions) -> list[Tool]:
    """Those that need nothing but this machine."""
    return [
        Python(sessions, config.session_bytes, config.output_bytes),
        Shell(sandbox),
        ListFiles(),
        ReadFile(),
        WriteFile(),
        EditFile(),
        SearchFiles(sandbox),
        ApplyPatch(sandbox),
        Patch(sandbox),
    ]


def sandbox_bounds(config: ToolsConfig) -> Bounds:
    return Bounds(
        memory_bytes=config.memory_bytes,
        processes=config.processes,
        cpu_seconds=config.cpu_seconds,
        file_bytes=config.file_bytes,
        temporary_bytes=config.temporary_bytes,
        workspace_bytes=config.workspace_bytes,
        workspace_files=config.workspace_files,
        output_bytes=config.output_bytes,
    )


def private(config: ToolsConfig, blobs: BlobStore, root: Path) -> tuple[Path, ...]:
    """Never seen from inside, wherever it lies."""
    own = [Path(path) for path in config.private_directories]
    return tuple(path.resolve() for path in (*own, *([blobs.directory] if blobs.directory else []), root))
