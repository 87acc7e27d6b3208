"""Area TOOLS: ``MOONTIDE_TOOLS_*``. Bounds of calls, workspaces and the sandbox."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
MIB = 1024 * 1024
SearchName = Literal["local", "searxng", "brave"]


class ToolsConfig(msgspec.Struct, frozen=True, kw_only=True):
    calls_in_flight: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    """Calls that this process works on at once; more processes take more."""
    scratch_directory: Path | None = None
    """For workspaces in work; this machine's temporary directory by default. A local disk."""
    workspace_bytes: Count = 1024 * MIB
    """Of one workspace, all files together."""
    workspace_files: Count = 20_000
    workspace_folders: Count = 32
    """Workspaces that this process keeps at hand between calls; the longest unused one goes first."""
    output_bytes: Count = 16 * MIB
    """Of one call: more is not kept. The model reads a small part of it."""
    memory_bytes: Annotated[int, msgspec.Meta(ge=64 * MIB)] = 2048 * MIB
    """Of one sandbox, all processes together, its ``/tmp`` included."""
    processes: Annotated[int, msgspec.Meta(ge=8, le=4096)] = 128
    """Processes and threads of one sandbox."""
    cpu_seconds: Seconds = 1200.0
    """Processor time of one call."""
    file_bytes: Count = 256 * MIB
    """Of one file that a sandboxed program writes."""
    temporary_bytes: Count = 256 * MIB
    """Size of a sandbox's ``/tmp``, which is memory."""
    session_bytes: Count = 64 * MIB
    """Of the variables that a Python session keeps from call to call."""
    python_sessions: Annotated[int, msgspec.Meta(ge=1, le=256)] = 8
    """Warm interpreters; a run without one continues from its stored variables."""
    sandbox_uid: Annotated[int, msgspec.Meta(ge=1, le=4_000_000_000)] = 62_700
    """First of the user ids, ``workspace_folders`` many, that sandboxed programs have when this process is root."""
    private_directories: tuple[str, ...] = ()
    """Folders that no sandbox may see, where they lie inside a folder that it does see (``/usr``, the interpreter)."""
    fetch_allow: tuple[str, ...] = ()
    """Hosts, addresses and networks (CIDR) beside the public internet that ``fetch`` may read on ``fetch_ports``, and
    ``host:port`` on a port of its own: none by default."""
    fetch_ports: tuple[int, ...] = (80, 443)
    fetch_bytes: Count = 5 * MIB
    """Of one body, packed and unpacked: what is behind is not read."""
    fetch_seconds: Seconds = 30.0
    """Of one ``fetch``, redirects included."""
    search_providers: tuple[SearchName, ...] = ()
    """Asked together by ``web_search``, which is offered where there is one; ``local`` needs no network."""
    search_folders: tuple[Path, ...] = ()
    """What ``local`` indexes; everybody who may search may read it."""
    search_index_file: Path | None = None
    """Kept from start to start; by default the index lives as long as the process."""
    search_files: Count = 20_000
    search_searxng_url: str = ""
    search_brave_key_file: Path | None = None
    search_brave_url: str = ""
    """In place of the public one."""
    mcp_file: Path | None = None
    """MCP servers whose tools are offered, as JSON: see ``mcp/config.py``."""
