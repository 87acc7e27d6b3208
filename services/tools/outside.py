"""The tools that reach beyond the workspace, as the configuration wants them: fetch, web_search, look, MCP servers.

Input: ``ToolsConfig``, a media check, this process's folder. Output: tools, while a block lasts. Raises BadInput for
a configuration that cannot be. Must not know how any of them works.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path

from services.tools.address import destinations
from services.tools.brave import Brave
from services.tools.config import ToolsConfig
from services.tools.fetch import Fetch
from services.tools.http import Web, WebLimits
from services.tools.index import IndexLimits, LocalIndex
from services.tools.look import Look
from services.tools.media_check import MediaCheck
from services.tools.registry import Registry
from services.tools.search import SearchProvider
from services.tools.searxng import SearXNG
from services.tools.secret import Secret
from services.tools.tool import Tool
from services.tools.web_search import BuiltinSearch, WebSearch
from shared.errors import BadInput


@asynccontextmanager
async def outside(config: ToolsConfig, check: MediaCheck, folder: Path) -> AsyncIterator[list[Tool]]:
    """``folder``: where an index lies that is not kept."""
    async with AsyncExitStack() as stack:
        index: LocalIndex | None = None
        if config.search_folders or "local" in config.search_providers:
            index = await stack.enter_async_context(_index(config, folder))
        limits = WebLimits(max_bytes=config.fetch_bytes, total_seconds=config.fetch_seconds)
        web = Web(destinations(config.fetch_allow, config.fetch_ports), limits)
        tools: list[Tool] = [Look(check), Fetch(web, index.read if index is not None else None)]
        if config.search_providers:
            search = WebSearch([_provider(name, config, index) for name in config.search_providers])
            tools += [search, BuiltinSearch(search)]
        yield tools


def mcp_tools(config: ToolsConfig, registry: Registry) -> AbstractAsyncContextManager[None]:
    """Tools of MCP servers, which come and go in ``registry``."""
    if config.mcp_file is None:
        return nullcontext()
    from services.tools.mcp.servers import mcp_servers  # the SDK takes a second and 40 MB

    return mcp_servers(config.mcp_file, registry)


def _index(config: ToolsConfig, folder: Path) -> AbstractAsyncContextManager[LocalIndex]:
    if not config.search_folders:
        raise BadInput("search.config", "the search provider local needs MOONTIDE_TOOLS_SEARCH_FOLDERS")
    database = config.search_index_file or folder / "search-index.sqlite"
    return LocalIndex.open(config.search_folders, database, IndexLimits(max_files=config.search_files))


def _provider(name: str, config: ToolsConfig, index: LocalIndex | None) -> SearchProvider:
    if name == "searxng":
        if not config.search_searxng_url:
            raise BadInput("search.config", "the search provider searxng needs MOONTIDE_TOOLS_SEARCH_SEARXNG_URL")
        return SearXNG(config.search_searxng_url)
    if name == "brave":
        if config.search_brave_key_file is None:
            raise BadInput("search.config", "the search provider brave needs MOONTIDE_TOOLS_SEARCH_BRAVE_KEY_FILE")
        return Brave(Secret(config.search_brave_key_file), config.search_brave_url)
    assert index is not None
    return index
