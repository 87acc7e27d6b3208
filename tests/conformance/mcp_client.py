"""What the conformance suite runs as the client under test: our tools service's side of MCP, as it is configured.

``python -m tests.conformance.mcp_client URL``, with the scenario's name and context in the environment. Connects as
the service does, calls every tool that the scenario's server lists, and exits with 0 when they answer.
"""

import asyncio
import json
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from services.tools.mcp.servers import mcp_servers
from services.tools.registry import Registry
from shared.config import environment
from tests.web.calls import call, text_of

ARGUMENTS: dict[str, dict[str, Any]] = {"server_add_numbers": {"a": 5, "b": 3}}
SECONDS = 25.0


def configuration(folder: Path, url: str, context: dict[str, Any]) -> Path:
    """As an operator would write it, who got id, secret or key from the authorisation server."""
    server: dict[str, Any] = {"url": url}
    if "client_id" in context:
        server["oauth"] = {"client_id": context["client_id"], "issuer": issuer(url)}
        if "client_secret" in context:
            (folder / "secret").write_text(context["client_secret"])
            server["oauth"]["client_secret"] = {"file": "secret"}
        else:
            (folder / "key").write_text(context["private_key_pem"])
            server["oauth"] |= {"private_key": {"file": "key"}, "algorithm": context["signing_algorithm"]}
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": {"server": server}}))
    return folder / "mcp.json"


def issuer(url: str) -> str:
    """The operator knows it; here the server's own metadata say it."""
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-protected-resource{parts.path}"
    with urllib.request.urlopen(where, timeout=10) as answer:
        return json.load(answer)["authorization_servers"][0]


async def main(url: str) -> int:
    context = json.loads(environment().get("MCP_CONFORMANCE_CONTEXT") or "{}")
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry()
        async with (
            asyncio.timeout(SECONDS),
            mcp_servers(configuration(Path(folder), url, context), registry),
        ):
            return await called(registry, Path(folder))


async def called(registry: Registry, folder: Path) -> int:
    for declaration in registry.declarations():
        arguments = ARGUMENTS.get(declaration.name, {})
        result = await registry.find(declaration.name).run(call(folder, **arguments))
        print(f"{declaration.name}: {text_of(result)[:500]}")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
