"""Which MCP servers are used, from a JSON file in the form that other clients know.

    {"mcpServers": {"files": {"command": "mcp-files", "args": ["/data"], "env": {"TOKEN": {"file": "files.token"}}},
                    "shop": {"url": "https://shop.example/mcp", "headers": {"Authorization": {"file": "shop.key"}}}}}

Input: the file. Output: servers by name, checked. Secrets stand in files beside it, and are read when they are used.
Must not know the protocol.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from schemas.tools import ToolEffect
from services.tools.secret import Secret
from shared.errors import BadInput

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,31}")
CONFIG_BYTES = 1024 * 1024
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Approval = Literal["hints", "writes", "always", "never"]
"""Which calls wait for a person: of tools that call themselves destructive, of all that are not read-only, all, or
none."""


class FileText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that stands in a file, found from where the configuration lies."""

    file: str


Text = str | FileText


class ToolRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Patterns are of ``fnmatch``, over the server's own names."""

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    prefix: str | None = None
    """Before every name; ``<server>_`` by default."""
    rename: dict[str, str] = {}
    """The server's name to ours, whole."""


class ToolOverride(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known better here than the server says; by the server's name of the tool."""

    effect: ToolEffect | None = None
    needs_approval: bool | None = None
    timeout_seconds: Seconds | None = None
    expected_seconds: Seconds | None = None
    description: str | None = None


class ClientCredentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """OAuth for machines: the server's authorisation server gives a token to whoever knows the secret or the key."""

    client_id: str
    client_secret: FileText | None = None
    private_key: FileText | None = None
    """PEM; signs an assertion in place of the secret."""
    algorithm: str = "ES256"
    scope: str | None = None
    issuer: str
    """The authorisation server that the secret belongs to: no other one sees it, whatever the MCP server says."""


class Confinement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a process may see beside programs and libraries; paths from where the configuration lies."""

    network: bool = False
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


class McpServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either ``command`` (stdio) or ``url`` (streamable HTTP)."""

    type: Literal["stdio", "http", "streamable-http"] | None = None
    """As other clients write it; nothing depends on it."""
    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, Text] = {}
    """Beside PATH, HOME, USER and the like: nothing else of this process's environment is handed on."""
    cwd: str | None = None
    sandbox: Confinement | None = None
    """None: it may do what this process may."""
    url: str | None = None
    headers: dict[str, Text] = {}
    oauth: ClientCredentials | None = None
    tools: ToolRules = ToolRules()
    overrides: dict[str, ToolOverride] = {}
    approval: Approval = "hints"
    timeout_seconds: Seconds = 60.0
    """Of one call."""
    expected_seconds: Seconds = 2.0
    connect_seconds: Seconds = 30.0
    refresh_seconds: Seconds = 300.0
    """Tools are listed again so often, also where the server does not say that they changed."""
    disabled: bool = False


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    mcpServers: dict[str, McpServer]


class McpServers(msgspec.Struct, frozen=True, kw_only=True):
    servers: dict[str, McpServer]
    folder: Path
    """Where the configuration lies."""

    def text(self, value: Text, *, lines: bool = False) -> str:
        """The value, or what its file holds now. Raises Unavailable(``tools.no_key``)."""
        return value if isinstance(value, str) else Secret(self.folder / value.file).read(lines=lines)


def read_servers(path: Path) -> McpServers:
    """Servers that are not disabled. Raises BadInput(``mcp.config``) naming what is wrong."""
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES + 1)
        known = msgspec.json.decode(data, type=_File).mcpServers
    except (OSError, msgspec.MsgspecError) as error:
        raise _wrong(f"{path.name} cannot be used: {error}") from error
    for name, server in known.items():
        problem = _problem(name, server)
        if problem is not None:
            raise _wrong(f"{path.name}: {name}: {problem}")
    return McpServers(
        servers={name: server for name, server in known.items() if not server.disabled}, folder=path.parent
    )


def _problem(name: str, server: McpServer) -> str | None:
    if not NAME.fullmatch(name):
        return "a server's name is letters, digits, _ and -, at most 32"
    if (server.command is None) == (server.url is None):
        return "either command or url is needed, not both"
    if server.url is not None and not server.url.startswith(("http://", "https://")):
        return "url must begin with http:// or https://"
    if server.url is not None and (server.args or server.env or server.cwd or server.sandbox):
        return "args, env, cwd and sandbox belong to a command"
    if server.command is not None and (server.headers or server.oauth):
        return "headers and oauth belong to a url"
    oauth = server.oauth
    if oauth is not None and (oauth.client_secret is None) == (oauth.private_key is None):
        return "oauth needs either client_secret or private_key"
    return None


def _wrong(message: str) -> BadInput:
    return BadInput("mcp.config", message)
