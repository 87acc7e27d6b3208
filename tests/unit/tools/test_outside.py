"""Which tools a configuration offers beyond files, and how a wrong one is told."""

from pathlib import Path

import pytest

from schemas.chat import MediaPart
from schemas.media import MediaManifest
from schemas.request import RequestContext
from services.tools.config import ToolsConfig
from services.tools.outside import outside
from services.tools.registry import Registry
from shared.config import load
from shared.errors import BadInput
from tests.web.calls import call, text_of


async def nobody(context: RequestContext, part: MediaPart) -> MediaManifest:
    raise AssertionError


def configured(**variables: str) -> ToolsConfig:
    return load(ToolsConfig, "TOOLS", {f"MOONTIDE_TOOLS_{name}": value for name, value in variables.items()})


async def test_search_is_offered_where_somebody_answers(tmp_path: Path) -> None:
    async with outside(configured(), nobody, tmp_path) as tools:
        assert [tool.declaration.name for tool in tools] == ["look", "fetch"]
    searxng = configured(SEARCH_PROVIDERS="searxng", SEARCH_SEARXNG_URL="http://search.local:8080")
    async with outside(searxng, nobody, tmp_path) as tools:
        assert [tool.declaration.name for tool in tools] == ["look", "fetch", "web_search", "$web_search"]


async def test_the_local_index_is_searched_by_kimis_name_and_read_by_fetch(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "tides.md").write_text("# Tides\n\nHigh water at noon.")
    config = configured(SEARCH_PROVIDERS="local", SEARCH_FOLDERS=str(tmp_path / "notes"))
    async with outside(config, nobody, tmp_path) as tools:
        registry = Registry(tools)
        search = registry.find("$web_search")
        found = ""
        while "local:" not in found:  # the first look at the folder is under way
            arguments = registry.arguments(search, b'{"query": "water"}')
            found = text_of(await search.run(call(tmp_path, **arguments)))
        assert found.startswith("1. Tides\n   local:notes/tides.md\n   # Tides High water at noon.")
        read = text_of(await registry.find("fetch").run(call(tmp_path, url="local:notes/tides.md")))
        assert read.endswith("High water at noon.")


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"SEARCH_PROVIDERS": "local"}, "MOONTIDE_TOOLS_SEARCH_FOLDERS"),
        ({"SEARCH_PROVIDERS": "searxng"}, "MOONTIDE_TOOLS_SEARCH_SEARXNG_URL"),
        ({"SEARCH_PROVIDERS": "brave"}, "MOONTIDE_TOOLS_SEARCH_BRAVE_KEY_FILE"),
        ({"SEARCH_PROVIDERS": "searxng", "SEARCH_SEARXNG_URL": "ftp://x/"}, "must look like"),
        ({"FETCH_ALLOW": "10.0.0.0/8, 10.0.0.1/8"}, "10.0.0.1/8"),
        ({"SEARCH_FOLDERS": "/nowhere/at/all"}, "/nowhere/at/all"),
    ],
)
async def test_a_wrong_configuration_is_named(tmp_path: Path, variables: dict[str, str], named: str) -> None:
    with pytest.raises(BadInput, match=named):
        async with outside(configured(**variables), nobody, tmp_path):
            pass
