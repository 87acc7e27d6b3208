"""The file of MCP servers, and what models are told of a server's tools."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tools.mcp.config import McpServer, ToolOverride, ToolRules, read_servers
from services.tools.mcp.discovery import Hints, ListedTool, declaration, our_name
from services.tools.registry import NAME
from shared.errors import BadInput, Unavailable

WORD = st.sampled_from([None, True, False])
HINTS = st.builds(Hints, read_only=WORD, destructive=WORD, idempotent=WORD)


def written(folder: Path, servers: Any) -> Path:
    path = folder / "mcp.json"
    path.write_text(servers if isinstance(servers, str) else json.dumps({"mcpServers": servers}))
    return path


def tool(name: str = "find", **fields: Any) -> ListedTool:
    return ListedTool(name=name, parameters={"type": "object"}, **fields)


def test_servers_are_read_in_the_form_that_others_use(tmp_path: Path) -> None:
    (tmp_path / "shop.key").write_text("Bearer abc\n")
    config = read_servers(
        written(
            tmp_path,
            {
                "files": {"type": "stdio", "command": "npx", "args": ["-y", "files"], "env": {"A": "b"}},
                "shop": {"type": "http", "url": "https://shop.example/mcp", "headers": {"X": {"file": "shop.key"}}},
                "old": {"command": "old", "disabled": True},
            },
        )
    )
    assert sorted(config.servers) == ["files", "shop"]
    assert config.text(config.servers["shop"].headers["X"]) == "Bearer abc"
    assert config.text(config.servers["files"].env["A"]) == "b"
    (tmp_path / "shop.key").unlink()
    with pytest.raises(Unavailable, match=r"shop\.key"):
        config.text(config.servers["shop"].headers["X"])


@pytest.mark.parametrize(
    ("servers", "named"),
    [
        ("{", "truncated"),
        ({"a": {}}, "either command or url"),
        ({"a": {"command": "x", "url": "http://y"}}, "either command or url"),
        ({"a": {"url": "y"}}, "http://"),
        ({"a": {"url": "http://y", "args": ["x"]}}, "belong to a command"),
        ({"a": {"command": "x", "headers": {"a": "b"}}}, "belong to a url"),
        ({"a b": {"command": "x"}}, "a server's name"),
        ({"a": {"comand": "x"}}, "comand"),
        ({"a": {"command": "x", "timeout_seconds": 0}}, "timeout_seconds"),
        ({"a": {"url": "http://y", "oauth": {"client_id": "c"}}}, "issuer"),
        ({"a": {"url": "http://y", "oauth": {"client_id": "c", "issuer": "http://z"}}}, "client_secret or private_key"),
    ],
)
def test_a_wrong_file_is_told_with_its_place(tmp_path: Path, servers: Any, named: str) -> None:
    with pytest.raises(BadInput, match=re.escape(named)) as caught:
        read_servers(written(tmp_path, servers))
    assert caught.value.code == "mcp.config"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        read_servers(tmp_path / "mcp.json")


@pytest.mark.parametrize(
    ("hints", "effect", "asks"),
    [
        (Hints(), "outside", False),
        (Hints(read_only=True), "none", False),
        (Hints(read_only=True, destructive=True, idempotent=True), "none", False),
        (Hints(idempotent=True), "keyed", False),
        (Hints(destructive=True), "outside", True),
        (Hints(destructive=True, idempotent=True), "keyed", True),
        (Hints(read_only=False, destructive=False, idempotent=False), "outside", False),
    ],
)
def test_hints_say_what_a_call_may_do(hints: Hints, effect: str, asks: bool) -> None:
    declared = declaration("shop", McpServer(command="x"), tool(hints=hints))
    assert declared is not None
    assert (declared.effect, declared.needs_approval) == (effect, asks)


@given(HINTS)
def test_the_configuration_has_the_last_word(hints: Hints) -> None:
    override = ToolOverride(
        effect="keyed", needs_approval=False, timeout_seconds=5, expected_seconds=4, description="d"
    )
    strict = McpServer(command="x", approval="always", overrides={"find": override})
    declared, other = declaration("shop", strict, tool(hints=hints)), declaration("shop", strict, tool("other"))
    assert declared is not None
    assert other is not None
    assert (declared.effect, declared.needs_approval, declared.timeout_seconds) == ("keyed", False, 5)
    assert (declared.expected_seconds, declared.description) == (4, "d")
    assert (other.effect, other.needs_approval, other.timeout_seconds) == ("outside", True, 60)


@pytest.mark.parametrize(("approval", "asks"), [("writes", [False, True]), ("never", [False, False])])
def test_who_is_asked_is_configured(approval: Any, asks: list[bool]) -> None:
    server = McpServer(command="x", approval=approval)
    tools = [tool(hints=Hints(read_only=True)), tool(hints=Hints(destructive=True))]
    declared = [declaration("shop", server, one) for one in tools]
    assert [one is not None and one.needs_approval for one in declared] == asks


def test_tools_are_filtered_and_renamed() -> None:
    rules = ToolRules(include=("find_*", "buy"), exclude=("*_secret",), rename={"buy": "purchase"}, prefix="")
    server = McpServer(command="x", tools=rules)
    offered = {
        name: declared.name
        for name in ("find_ship", "find_secret", "buy", "sell")
        if (declared := declaration("shop", server, tool(name))) is not None
    }
    assert offered == {"find_ship": "find_ship", "buy": "purchase"}


@given(st.from_regex(r"\A[a-zA-Z_][a-zA-Z0-9_-]{0,31}\Z"), st.text(min_size=1, max_size=200))
def test_every_name_becomes_one_that_models_may_call(server: str, name: str) -> None:
    assert NAME.fullmatch(our_name(server, McpServer(command="x"), name)) or len(server) + len(name) < 2


def test_long_names_stay_apart() -> None:
    names = {our_name("shop", McpServer(command="x"), "a" * 100 + end) for end in "abc"}
    assert len(names) == 3
    assert our_name("shop", McpServer(command="x"), "files.read/v2") == "shop_files_read_v2"


def test_a_tool_without_a_description_has_its_title_or_name() -> None:
    server = McpServer(command="x")
    described = [declaration("s", server, one) for one in (tool(title="Find it"), tool(), tool(description="d" * 9000))]
    assert [one and one.description for one in described] == ["Find it", "find", "d" * 4000]
