"""Real MCP servers as processes: over stdio and streamable HTTP, of the newest protocol and of an older one."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from schemas.chat import MediaPart
from services.tools.mcp import tether
from services.tools.mcp.servers import mcp_servers
from services.tools.registry import Registry
from services.tools.tool import Result
from shared.errors import BadInput, Unavailable
from tests.integration.process import ROOT, running
from tests.waiting import until
from tests.web.calls import call, text_of
from tests.web.mcp.old_site import old_site
from tests.web.mcp.server import PNG

OLD_SERVER = ROOT / "tests" / "web" / "mcp" / "old_server.py"
INTERPRETER = str(Path(sys.executable).resolve())
"""With the standard library alone."""
SECONDS = 40.0
"""For a server's interpreter to start on a busy machine."""


class Harbour:
    """The tools of some servers, and what the servers noted in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = Registry()
        self.progress: list[str] = []

    async def ask(self, tool: str, **arguments: Any) -> Result:
        data = json.dumps(arguments).encode()
        found = self.registry.find(tool)
        checked = self.registry.arguments(found, data)
        return await found.run(call(self.folder, said=self.progress, **checked))

    async def says(self, tool: str, **arguments: Any) -> str:
        return text_of(await self.ask(tool, **arguments))

    async def answers(self, tool: str, **arguments: Any) -> str:
        """Waits for a server that is down."""
        async with asyncio.timeout(SECONDS):
            while True:
                with suppress(Unavailable):
                    return await self.says(tool, **arguments)
                await asyncio.sleep(0.05)

    def said(self) -> list[str]:
        path = self.folder / "said"
        return path.read_text().splitlines() if path.exists() else []

    def names(self) -> list[str]:
        return [declaration.name for declaration in self.registry.declarations()]

    def pid(self) -> int:
        """Of the server of the older protocol."""
        return int((self.folder / "pid").read_text())


@asynccontextmanager
async def harbour(folder: Path, **servers: dict[str, Any]) -> AsyncIterator[Harbour]:
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
    this = Harbour(folder)
    async with asyncio.timeout(2 * SECONDS), mcp_servers(folder / "mcp.json", this.registry):
        await until(lambda: this.names() or not servers, SECONDS)
        yield this


def new(folder: Path, **more: Any) -> dict[str, Any]:
    """The server of the newest protocol, over stdio."""
    env = {"PYTHONPATH": str(ROOT), **more.pop("env", {})}
    return {"command": sys.executable, "args": ["-m", "tests.web.mcp.server", str(folder), "stdio"], "env": env, **more}


def old(folder: Path, **more: Any) -> dict[str, Any]:
    return {"command": sys.executable, "args": [str(OLD_SERVER), str(folder)], **more}


def lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_tools_answer_with_whatever_mcp_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONTIDE_TOOLS_MCP_FILE", "not for servers")
    (tmp_path / "harbour.key").write_text("s3cret\n")
    async with harbour(tmp_path, new=new(tmp_path, env={"HARBOUR_KEY": {"file": "harbour.key"}})) as port:
        declared = {declaration.name: declaration for declaration in port.registry.declarations()}
        assert declared["new_tide"].description == "When is high water?"
        assert (declared["new_tide"].effect, declared["new_moor"].effect, declared["new_sink"].effect) == (
            *("none", "keyed", "outside"),
        )
        assert [name for name, one in declared.items() if one.needs_approval] == ["new_sink"]
        assert await port.says("new_tide", port="Brest") == "High water at Brest: noon"
        assert json.loads(await port.says("new_depth", port="Brest")) == {"metres": 7.5}
        assert await port.says("new_secret") == "s3cret None"
        assert "NoBackChannel" in await port.says("new_demand")
        with pytest.raises(BadInput, match="greet wants something of a person") as caught:
            await port.ask("new_greet")
        assert caught.value.code == "mcp.asks"
        with pytest.raises(BadInput, match="sink") as caught:
            await port.ask("new_sink", ship="Unsinkable")
        assert caught.value.code == "mcp.tool_error"
        with pytest.raises(BadInput) as caught:
            await port.ask("new_tide", harbour="Brest")
        assert caught.value.code == "tool.arguments"
        await check_chart(port)
        await check_progress(port)
        assert await port.says("new_grow") == "grown"
        await until(lambda: "new_ebb" in port.names(), SECONDS)


async def check_chart(port: Harbour) -> None:
    """Pictures are shown, sound and bytes are kept, links and embedded texts are told, nonsense is named."""
    result = await port.ask("new_chart")
    text = text_of(result)
    for words in ("the chart", "file:///notes.md: notes · text/markdown · of the pilot", "mem:a]\nembedded words"):
        assert words in text
    assert "[image left out: it is not base64]" in text
    assert "[audio of 8 bytes, audio/wav: kept as chart-2" in text
    shown = [part for part in result.content if isinstance(part, MediaPart)]
    assert [part.name for part in shown] == ["chart-1.png", "chart-3.png"]
    assert await call(port.folder).blobs.get(shown[0].source) == PNG
    assert [file.media_type for file in result.files] == ["image/png", "audio/wav", "image/png"]


async def check_progress(port: Harbour) -> None:
    """Progress comes through, cancelling reaches the server, and the next call is answered."""
    assert await port.says("new_wait", steps=3) == "done"
    assert port.progress[-3:] == [f"step {step} ({step} of 3)" for step in (1, 2, 3)]
    waiting = asyncio.create_task(port.ask("new_wait", steps=1000))
    await until(lambda: sum(line.startswith("wait begins") for line in port.said()) == 2, SECONDS)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    await until(lambda: port.said()[-1] == "wait cancelled", SECONDS)
    assert await port.says("new_tide", port="Brest") == "High water at Brest: noon"


async def test_a_dead_server_refuses_and_nobody_else_does(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    async with harbour(tmp_path, one=old(tmp_path), other=old(tmp_path / "other")) as port:
        await until(lambda: {"one_grow", "other_grow"} <= set(port.names()), SECONDS)
        with pytest.raises(Unavailable, match="the MCP server one went away during die, which may have been") as caught:
            await port.ask("one_die")
        assert caught.value.code == "mcp.lost"
        assert not caught.value.retryable
        with pytest.raises(Unavailable, match="the MCP server one is down") as caught:
            await port.ask("one_grow")
        assert caught.value.code == "mcp.down"
        assert "one_grow" in port.names()
        assert await port.says("other_grow") == "grown"
        assert await port.answers("one_grow") == "grown"


async def test_a_changed_list_is_read_again(tmp_path: Path) -> None:
    async with harbour(tmp_path, old=old(tmp_path)) as port:
        assert "old_ebb" not in port.names()
        assert await port.says("old_grow") == "grown"
        await until(lambda: "old_ebb" in port.names(), SECONDS)


async def test_tools_that_are_gone_after_a_restart_are_gone_here(tmp_path: Path) -> None:
    (tmp_path / "extra").touch()
    async with harbour(tmp_path, old=old(tmp_path, tools={"exclude": ["quiet"]})) as port:
        assert "old_ebb" in port.names()
        assert "old_quiet" not in port.names()
        (tmp_path / "extra").unlink()
        os.kill(port.pid(), signal.SIGKILL)
        await until(lambda: "old_ebb" not in port.names(), SECONDS)
        assert "old_grow" in port.names()


async def test_servers_end_with_us_even_those_that_would_not(tmp_path: Path) -> None:
    """And what they started."""
    script = f"sleep 1000 & echo $! > '{tmp_path}/child'; '{sys.executable}' '{OLD_SERVER}' '{tmp_path}'; sleep 1000"
    stubborn = {"command": "sh", "args": ["-c", f"trap '' TERM HUP INT; {script}"]}
    async with harbour(tmp_path, stubborn=stubborn) as port:
        assert await port.says("stubborn_grow") == "grown"
        child = int((tmp_path / "child").read_text())
        assert lives(child)
    await until(lambda: not lives(port.pid()), SECONDS)
    await until(lambda: not lives(child), SECONDS)


async def test_servers_end_when_we_are_killed(tmp_path: Path) -> None:
    _file(tmp_path, {"old": old(tmp_path)})
    async with running("tests.web.mcp.holder", str(tmp_path / "mcp.json")) as child:
        assert await child.line(2 * SECONDS) == ["held"]
        pid = Harbour(tmp_path).pid()
        os.kill(pid, signal.SIGSTOP)  # it cannot even notice that its input ends
        assert lives(pid)
        await child.kill()
        await until(lambda: not lives(pid), SECONDS)


@pytest.mark.parametrize("confined", [False, True])
async def test_a_server_may_be_kept_from_the_machine(tmp_path: Path, confined: bool) -> None:
    """Off, it reaches canaries; on, it sees what it is given and answers all the same."""
    (tmp_path / "seen").mkdir()
    (tmp_path / "canary").write_text("canary")
    given = {"read": [str(OLD_SERVER.parent), sys.base_prefix], "write": ["seen"]}
    server = old(tmp_path / "seen", **({"sandbox": given} if confined else {}))
    server["command"] = INTERPRETER
    with socket.create_server(("127.0.0.1", 0)) as canary:
        wanted = {"file": str(tmp_path / "canary"), "port": canary.getsockname()[1], "pid": os.getpid()}
        async with harbour(tmp_path, old=server) as port:
            had = json.loads(await port.says("old_peek", **wanted))
            assert (tmp_path / "seen" / "said").exists()
    if confined:
        assert had["file"] is had["network"] is False
    else:
        assert had == {"file": True, "network": True, "process": True}


async def test_an_older_server_is_spoken_to_in_its_protocol(tmp_path: Path) -> None:
    async with harbour(tmp_path, old=old(tmp_path)) as port:
        heard = [json.loads(line) for line in port.said()]
        begun = next(message for message in heard if message["method"] == "initialize")
        assert begun["params"]["clientInfo"]["name"] == "moontide"
        assert begun["params"]["capabilities"] == {}, "neither sampling nor elicitation nor roots is offered"
        waiting = asyncio.create_task(port.ask("old_slow"))
        await until(lambda: "begun (1)" in port.progress, SECONDS)
        waiting.cancel()
        await asyncio.wait([waiting])
        await until(lambda: "notifications/cancelled" in port.said()[-1], SECONDS)
        asked = [json.loads(line) for line in port.said()]
        slow = next(message for message in asked if message.get("params", {}).get("name") == "slow")
        assert slow["params"]["_meta"]["io.moontide/callId"] == "run-a-1-0"
        assert json.loads(port.said()[-1])["params"]["requestId"] == slow["id"]
        with pytest.raises(BadInput, match="say louder"):
            await port.ask("old_quiet")
        with pytest.raises(Unavailable, match="not one of MCP"):
            await port.ask("old_wrong")
        assert await port.says("old_ask") == "asked"
        await until(lambda: any(json.loads(line).get("id") == "roots" for line in port.said()), SECONDS)
        refused = next(json.loads(line) for line in port.said() if json.loads(line).get("id") == "roots")
        assert refused["error"]["code"] in (-32601, -32600)


async def test_a_line_without_an_end_ends_the_server_and_not_us(tmp_path: Path) -> None:
    async with harbour(tmp_path, old=old(tmp_path)) as port:
        with pytest.raises(Unavailable) as caught:
            await port.ask("old_flood")
        assert caught.value.code == "mcp.lost"
        assert tether.LINE_BYTES <= 8 * 1024 * 1024
        assert await port.answers("old_grow") == "grown"


async def test_a_server_that_cannot_start_is_told_with_its_last_words(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    servers = {"gone": {"command": "no-such-command"}, "broken": {"command": "sh", "args": ["-c", "echo oh no >&2"]}}
    async with mcp_servers(_file(tmp_path, servers), Registry()):
        reasons = {record.__dict__["server"]: record.__dict__["reason"] for record in caplog.records}
    assert "no-such-command cannot be started: No such file or directory" in reasons["gone"]
    assert "its last words: oh no" in reasons["broken"]


async def test_a_server_over_http_is_reached_lost_and_found_again(tmp_path: Path) -> None:
    port_number = free_port()
    url = f"http://127.0.0.1:{port_number}/mcp"
    async with served(tmp_path, port_number) as first, harbour(tmp_path, web={"url": url}) as port:
        assert await port.says("web_tide", port="Brest") == "High water at Brest: noon"
        assert await port.says("web_wait", steps=2) == "done"
        assert "step 2 (2 of 2)" in port.progress
        assert await port.says("web_grow") == "grown"
        await until(lambda: "web_ebb" in port.names(), SECONDS)
        waiting = asyncio.create_task(port.ask("web_wait", steps=1000))
        await until(lambda: sum(line.startswith("wait begins") for line in port.said()) == 2, SECONDS)
        waiting.cancel()
        await asyncio.wait([waiting])
        await until(lambda: "wait cancelled" in port.said(), SECONDS)
        first.kill()
        await first.wait()
        with pytest.raises(Unavailable) as caught:
            await port.ask("web_tide", port="Brest")
        assert caught.value.code in ("mcp.lost", "mcp.down")
        async with served(tmp_path, port_number):
            assert await port.answers("web_tide", port="again") == "High water at again: noon"


async def test_a_server_that_forgot_us_is_met_again_and_keys_are_rotated(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("Bearer one")
    async with old_site() as site:
        server = {"url": site.url, "headers": {"Authorization": {"file": "key"}}}
        async with harbour(tmp_path, old=server) as port:
            assert await port.says("old_tide") == "told in session session-1"
            (tmp_path / "key").write_text("Bearer two")
            site.sessions.clear()
            with pytest.raises(Unavailable, match="forgot us") as caught:
                await port.ask("old_tide")
            assert (caught.value.code, caught.value.retryable, site.calls) == ("mcp.down", True, 1)
            assert await port.answers("old_tide") == "told in session session-2"
    assert site.keys[0] == "Bearer one"
    assert site.keys[-1] == "Bearer two"


async def test_an_answer_without_an_end_ends_the_connection_and_not_us(tmp_path: Path) -> None:
    async with old_site() as site, harbour(tmp_path, old={"url": site.url}) as port:
        with pytest.raises(Unavailable) as caught:
            await port.ask("old_flood")
        assert caught.value.code == "mcp.lost"
        assert await port.answers("old_tide") == "told in session session-2"


async def test_nobody_behind_a_url_costs_no_start(tmp_path: Path) -> None:
    registry = Registry()
    async with mcp_servers(_file(tmp_path, {"web": {"url": f"http://127.0.0.1:{free_port()}/mcp"}}), registry):
        assert registry.declarations() == ()


def _file(folder: Path, servers: dict[str, Any]) -> Path:
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": servers}))
    return folder / "mcp.json"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@asynccontextmanager
async def served(folder: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.web.mcp.server", str(folder), str(port)),
        cwd=ROOT,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
