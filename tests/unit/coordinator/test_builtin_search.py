"""Kimi's builtin search: the tool ``web_search`` under another name, for runs that ask for it."""

import json

import pytest

from schemas.blobs import BlobRef
from schemas.runs import RunSpec
from schemas.tools import ToolDeclaration
from services.coordinator.catalogue import Catalogue, chosen
from shared.errors import BadInput

SEARCH = ToolDeclaration(name="web_search", description="Searches.", parameters=b'{"type":"object"}', effect="outside")
MESSAGES = (BlobRef(key="sha256/x", size_bytes=1),)


def spec(tools: tuple[str, ...] | None) -> RunSpec:
    return RunSpec(model="m", messages=MESSAGES, tools=tools)


def test_a_run_that_names_the_builtin_gets_it_in_kimis_form() -> None:
    (tool,) = chosen((SEARCH,), spec(("$web_search",)))
    assert (tool.name, tool.effect) == ("$web_search", "outside")
    shown = json.loads(Catalogue((tool,)).json)
    assert shown == [{"type": "builtin_function", "function": {"name": "$web_search"}}]


def test_a_run_that_names_no_tools_is_shown_the_plain_one() -> None:
    assert [tool.name for tool in chosen((SEARCH,), spec(None))] == ["web_search"]


def test_without_a_search_there_is_no_builtin() -> None:
    with pytest.raises(BadInput, match="there is no tool"):
        chosen((), spec(("$web_search",)))
