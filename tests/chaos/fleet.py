"""All processes that runs need, for real: broker, two coordinators, two tools, two ways to a model, and the rest.

Input: a folder and what to plant. Output: supervised processes that may be killed and frozen by name, and a client's
connection to their broker. Two models: ``mission-model``, an OpenAI-compatible endpoint behind upstream, and
``mission-local``, a stand-in engine behind a tokenizer. Must not know what runs do.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from schemas import names
from schemas.codec import decode, encode
from schemas.tools import ToolsListed, ToolsQuery
from services.cli import topology
from services.cli.child import ChildSpec, file_exists
from services.cli.supervisor import RestartPolicy, Supervisor, supervised
from shared.blobs.store import BlobStore
from shared.bus.broker import Broker
from shared.bus.connection import NatsBus, connect
from tests.e2e.stack import free_port
from tests.endpoints.agent import MODEL
from tests.missions import library
from tests.unit.tokenizer.stack import write_checkpoint
from tests.waiting import until_it_is

LOCAL = "mission-local"
CONTEXT = 262_144
POLICY = RestartPolicy(first_pause_seconds=0.2, max_pause_seconds=1.0, healthy_seconds=2.0, max_failed_starts=8)
"""Children are killed all the time: that is no reason to give them up."""
TWICE = ("coordinator", "tools")
SERVICES = ("recorder", "ingest", "upstream", "tokenizer")
OURS = ("endpoint", "engine", "page")
START_SECONDS = 180.0


@dataclass(frozen=True)
class Options:
    seed: int = 1
    """Of the mission: what its documents say."""
    coordinator: str = "services.coordinator"
    """The module that runs as coordinators: tests plant what breaks a promise, or freezes."""
    model_seconds: float = 0.05
    """From a request to the end of its answer."""
    effect_seconds: float = 0.2
    """Between an effect in the harbour and the answer that says so."""
    local: bool = True
    """With tokenizer and stand-in engine."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further ones for all."""


class Fleet:
    def __init__(self, folder: Path, options: Options) -> None:
        self.folder, self.options = folder, options
        self.layout = topology.Layout(folder)
        self.layout.make()
        self.broker = Broker.prepare(self.layout.broker)
        self.endpoint_port, self.page_port = free_port(), free_port()
        library.write(self.library, options.seed)
        self.checkpoint = write_checkpoint(folder / LOCAL, context=CONTEXT)
        self.supervisor: Supervisor
        self.bus: NatsBus
        self.blobs = BlobStore.open(self.layout.blobs.as_uri())

    @property
    def library(self) -> Path:
        return self.folder / "library"

    @property
    def model_log(self) -> Path:
        return self.folder / "model.jsonl"

    @property
    def effects_log(self) -> Path:
        return self.folder / "effects.jsonl"

    @property
    def models(self) -> tuple[str, ...]:
        return (MODEL, LOCAL) if self.options.local else (MODEL,)

    @property
    def notice_url(self) -> str:
        return f"http://127.0.0.1:{self.page_port}/notice/{self.options.seed}"

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.endpoint_port}"

    def names_of(self, part: str) -> tuple[str, ...]:
        return tuple(f"{part}-{number}" for number in (1, 2)) if part in TWICE else (part,)

    def waves(self) -> tuple[tuple[ChildSpec, ...], ...]:
        local = ("tokenizer", "engine") if self.options.local else ()
        services = ("recorder", "ingest", "upstream", *local)
        last = [name for part in TWICE for name in self.names_of(part)]
        broker = topology.broker_spec(self.broker, self.layout, self._environment())
        page, endpoint = self._ours("page"), self._ours("endpoint")
        return (broker, page, endpoint), tuple(map(self._child, services)), tuple(map(self._child, last))

    def _child(self, name: str) -> ChildSpec:
        part = name.partition("-")[0]
        if part in OURS:
            return self._ours(part)
        module = self.options.coordinator if part == "coordinator" else f"services.{part}"
        own = self._variables(part) | {
            "MOONTIDE_SERVICE_BLOBS_URL": self.layout.blobs.as_uri(),
            "MOONTIDE_SERVICE_READY_FILE": str(self.layout.ready_file(name)),
            "MOONTIDE_SERVICE_DRAIN_SECONDS": "5",
        }
        environment = self._environment() | topology.broker_variables(self.broker) | own | dict(self.options.variables)
        return ChildSpec(
            name=name,
            command=topology.module_command(module),
            environment=lambda: environment,
            log_path=self.layout.log(name),
            wait_ready=lambda: file_exists(self.layout.ready_file(name)),
            ready_file=self.layout.ready_file(name),
            ready_seconds=START_SECONDS,
            drain_seconds=6.0,
        )

    def _variables(self, part: str) -> dict[str, str]:
        own: dict[str, dict[str, str]] = {
            "upstream": {
                "MOONTIDE_UPSTREAM_URL": f"{self.endpoint_url}/v1",
                "MOONTIDE_UPSTREAM_TOOLS_STREAMING": "always",
            },
            "tokenizer": {
                "MOONTIDE_TOKENIZER_CHECKPOINT_DIR": str(self.checkpoint),
                "MOONTIDE_TOKENIZER_MODEL": LOCAL,
            },
            "recorder": {"MOONTIDE_RECORDER_DATABASE_PATH": str(self.layout.spans)},
            "tools": self._tools(),
        }
        return own.get(part, {})

    def _tools(self) -> dict[str, str]:
        return {
            "MOONTIDE_TOOLS_FETCH_ALLOW": "127.0.0.1",
            "MOONTIDE_TOOLS_FETCH_PORTS": str(self.page_port),
            "MOONTIDE_TOOLS_SEARCH_PROVIDERS": "local",
            "MOONTIDE_TOOLS_SEARCH_FOLDERS": str(self.library),
            "MOONTIDE_TOOLS_MCP_FILE": str(self._mcp_file()),
        }

    def _mcp_file(self) -> Path:
        """The harbour, whose notes know idempotency keys, and whose other effects do not."""
        effects = {"note": "keyed", "announce": "outside", "shout": "outside"}
        server = {
            "command": sys.executable,
            "args": [
                "-m",
                "tests.endpoints.harbour",
                "mcp",
                "--log",
                str(self.effects_log),
                "--pause",
                str(self.options.effect_seconds),
            ],
            "env": {"PYTHONPATH": topology.python_path()},
            "overrides": {name: {"effect": effect} for name, effect in effects.items()},
            "approval": "never",
        }
        path = self.folder / "mcp.json"
        path.write_text(json.dumps({"mcpServers": {"harbour": server}}))
        return path

    def _ours(self, part: str) -> ChildSpec:
        arguments: dict[str, tuple[str, ...]] = {
            "endpoint": (
                "tests.endpoints.agent", "--port", str(self.endpoint_port), "--log", str(self.model_log),
                "--seconds", str(self.options.model_seconds),
            ),
            "engine": (
                "tests.endpoints.token_model", "--checkpoint", str(self.checkpoint), "--log", str(self.model_log),
                "--seconds", str(self.options.model_seconds),
            ),
            "page": ("tests.endpoints.harbour", "page", "--port", str(self.page_port)),
        }  # fmt: skip
        ready: dict[str, Callable[[], object]] = {
            "endpoint": lambda: _listens(self.endpoint_port),
            "engine": lambda: file_exists(self.layout.ready_file(part)),
            "page": lambda: _listens(self.page_port),
        }
        environment = self._environment() | topology.broker_variables(self.broker)
        environment |= {
            "MOONTIDE_SERVICE_BLOBS_URL": self.layout.blobs.as_uri(),
            "MOONTIDE_SERVICE_READY_FILE": str(self.layout.ready_file(part)),
        }
        return ChildSpec(
            name=part,
            command=topology.module_command(*arguments[part]),
            environment=lambda: environment,
            log_path=self.layout.log(part),
            wait_ready=ready[part],  # type: ignore[arg-type]
            ready_file=self.layout.ready_file(part) if part == "engine" else None,
            ready_seconds=START_SECONDS,
            drain_seconds=3.0,
        )

    def _environment(self) -> dict[str, str]:
        """Without settings of whoever runs this."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MOONTIDE_", "NATS_", "OTEL_"))}
        return topology.with_python_path(clean | {"PYTHONUNBUFFERED": "1"})

    def send(self, name: str, number: signal.Signals) -> int | None:
        """A signal to the child itself; None when it is not there just now."""
        pid = self.supervisor.children[name].pid
        if pid is None:
            return None
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            return pid
        return None

    def kill(self, name: str) -> bool:
        return self.send(name, signal.SIGKILL) is not None

    def ready(self, name: str) -> bool:
        return self.supervisor.children[name].ready.is_set()

    async def has_harbour(self) -> bool:
        """The MCP server's tools are there: a slow machine takes longer to start it than tools wait for it."""
        reply = await self.bus.request(names.SUBJECT_TOOLS_LIST, encode(ToolsQuery()), 10.0)
        return any(tool.name.startswith("harbour_") for tool in decode(reply, ToolsListed).tools)

    def owner(self, name: str) -> str:
        """The name under which a coordinator that runs now owns runs, as its log tells it."""
        path = self.layout.log(name)
        found = ""
        for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
            with suppress(ValueError):
                row = json.loads(line)
                found = row["instance"] if isinstance(row, dict) and row.get("event") == "service ready" else found
        return found


async def _listens(port: int) -> None:
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.02)


@asynccontextmanager
async def running(folder: Path, options: Options, report: Callable[[str], None] | None = None) -> AsyncIterator[Fleet]:
    """Everything is ready inside, and gone behind."""
    fleet = Fleet(folder, options)
    order = [child.name for wave in reversed(fleet.waves()) for child in reversed(wave)]
    async with supervised(fleet.waves(), order, report or (lambda line: None), POLICY) as supervisor:
        fleet.supervisor = supervisor
        async with connect(fleet.broker.config, "chaos") as bus:
            fleet.bus = bus
            await until_it_is(fleet.has_harbour, START_SECONDS)
            yield fleet
