"""Which processes make a stack, what each is told, and in which order they start and drain.

Input: the layout of a stack's directory and what it serves. Output: child specs. Starts nothing itself.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import services
from services.cli.child import ChildSpec, file_exists
from shared.bus.broker import Broker

HOST = "127.0.0.1"
BROKER = "broker"
DRAIN_ORDER = (
    *("gateway", "coordinator", "upstream", "tokenizer"),
    *("tools", "ingest", "inference", "recorder", BROKER),
)
"""Who accepts work stops first; who keeps the traces and carries the messages stops last."""

LATE = ("tools", "coordinator")
"""For runs alone: they start once the stack answers, and nobody waits for them."""

READY_SECONDS = {"inference": 900.0}
"""A large checkpoint takes its time; everything else starts within the default."""


@dataclass(frozen=True)
class Layout:
    """Paths below one stack's directory."""

    directory: Path

    @property
    def broker(self) -> Path:
        return self.directory / "broker"

    @property
    def blobs(self) -> Path:
        return self.directory / "blobs"

    @property
    def spans(self) -> Path:
        return self.directory / "recorder" / "spans.sqlite"

    @property
    def run(self) -> Path:
        return self.directory / "run"

    @property
    def port_file(self) -> Path:
        return self.run / "gateway.port"

    @property
    def state(self) -> Path:
        return self.directory / "stack.json"

    @property
    def lock(self) -> Path:
        return self.directory / "lock"

    def ready_file(self, name: str) -> Path:
        return self.run / f"{name}.ready"

    def log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"

    def make(self) -> None:
        """Only this user may look inside: broker credentials and uploads lie there."""
        for directory in (self.directory, self.broker, self.blobs, self.spans.parent, self.run, self.log("x").parent):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def port(self) -> int | None:
        """The port that the gateway chose, once it listens."""
        return int(self.port_file.read_text()) if self.port_file.exists() else None


@dataclass(frozen=True)
class Upstream:
    """An OpenAI-compatible endpoint as the model, or a table of several. None: what the service takes by default."""

    url: str | None = None
    table_file: Path | None = None
    key_file: Path | None = None
    model: str | None = None
    """Its name there, and the one announced here."""
    max_frames: int | None = None


@dataclass(frozen=True)
class Serving:
    """What a stack serves: a checkpoint here, or an endpoint elsewhere. ``port`` 0 lets the gateway choose."""

    port: int
    model: str = ""
    """Empty when only the endpoint knows its name."""
    checkpoint: Path | None = None
    upstream: Upstream | None = None
    keys_file: Path | None = None
    """Who may use it; None: whoever reaches the port, unless the environment says otherwise."""

    @property
    def waves(self) -> tuple[tuple[str, ...], ...]:
        """Behind the broker. The gateway opens its port once there is somebody to answer."""
        brain = ("upstream",) if self.upstream is not None else ("inference", "tokenizer")
        return ("recorder", *brain, "ingest"), ("gateway",)


def python_path() -> str:
    """Where the import packages lie: children find them from any directory."""
    return str(Path(services.__path__[0]).parent)


def with_python_path(environ: Mapping[str, str]) -> dict[str, str]:
    paths = [python_path(), environ.get("PYTHONPATH", "")]
    return dict(environ) | {"PYTHONPATH": ":".join(path for path in paths if path)}


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Without what is for commands alone: the services need nobody's key."""
    return {name: value for name, value in environ.items() if not name.startswith("MOONTIDE_CLIENT_")}


def module_command(module: str, *arguments: str) -> tuple[str, ...]:
    """A module of ours as a program. ``-P``: a folder called `services` in the current directory is not ours."""
    return (sys.executable, "-P", "-m", module, *arguments)


def waves(
    layout: Layout, serving: Serving, broker: Broker | None, environ: Mapping[str, str]
) -> tuple[tuple[ChildSpec, ...], ...]:
    """Child specs in starting order. Without ``broker`` the services use the one that ``environ`` names."""
    base = with_python_path(environ) | (broker_variables(broker) if broker is not None else {})
    found = [tuple(service_spec(name, layout, serving, base) for name in wave) for wave in serving.waves]
    return ((broker_spec(broker, layout, environ),), *found) if broker is not None else tuple(found)


def late(layout: Layout, serving: Serving, broker: Broker | None, environ: Mapping[str, str]) -> tuple[ChildSpec, ...]:
    """Child specs of what starts behind all waves."""
    base = with_python_path(environ) | (broker_variables(broker) if broker is not None else {})
    return tuple(service_spec(name, layout, serving, base) for name in LATE)


def drain_order(serving: Serving, broker: Broker | None) -> tuple[str, ...]:
    started = {name for wave in serving.waves for name in wave}
    running = started | set(LATE) | ({BROKER} if broker is not None else set())
    return tuple(name for name in DRAIN_ORDER if name in running)


def broker_variables(broker: Broker) -> dict[str, str]:
    return {
        "NATS_URL": broker.url,
        "MOONTIDE_BUS_USER": broker.user,
        "MOONTIDE_BUS_PASSWORD_FILE": str(broker.password_file),
    }


def broker_spec(broker: Broker, layout: Layout, environ: Mapping[str, str]) -> ChildSpec:
    return ChildSpec(
        name=BROKER,
        command=tuple(broker.command()),
        environment=lambda: environ,
        log_path=layout.log(BROKER),
        wait_ready=broker.wait_ready,
        ready_seconds=30.0,
    )


def service_spec(name: str, layout: Layout, serving: Serving, base: Mapping[str, str]) -> ChildSpec:
    return ChildSpec(
        name=name,
        command=module_command(f"services.{name}"),
        environment=lambda: dict(base) | variables(name, layout, serving),
        log_path=layout.log(name),
        wait_ready=_ready(name, layout),
        ready_file=layout.ready_file(name),
        ready_seconds=READY_SECONDS.get(name, 120.0),
    )


def _ready(name: str, layout: Layout) -> Callable[[], Awaitable[None]]:
    async def wait() -> None:
        expected = [file_exists(layout.ready_file(name))]
        if name == "gateway":
            expected.append(file_exists(layout.port_file))
        await asyncio.gather(*expected)

    return wait


def variables(name: str, layout: Layout, serving: Serving) -> dict[str, str]:
    """The service's own environment. A gateway that restarts keeps the port it chose."""
    common = {
        "MOONTIDE_SERVICE_BLOBS_URL": layout.blobs.as_uri(),
        "MOONTIDE_SERVICE_READY_FILE": str(layout.ready_file(name)),
    }
    own = {
        "gateway": {
            "MOONTIDE_GATEWAY_HOST": HOST,
            "MOONTIDE_GATEWAY_PORT": str(layout.port() or serving.port),
            "MOONTIDE_GATEWAY_PORT_FILE": str(layout.port_file),
            **({} if serving.keys_file is None else {"MOONTIDE_GATEWAY_KEYS_FILE": str(serving.keys_file)}),
        },
        "tokenizer": _model_variables("TOKENIZER", serving),
        "inference": _model_variables("INFERENCE", serving),
        "upstream": _upstream_variables(serving.upstream) if serving.upstream is not None else {},
        "recorder": {"MOONTIDE_RECORDER_DATABASE_PATH": str(layout.spans)},
    }
    return common | own.get(name, {})


def _model_variables(area: str, serving: Serving) -> dict[str, str]:
    return {
        f"MOONTIDE_{area}_CHECKPOINT_DIR": str(serving.checkpoint),
        f"MOONTIDE_{area}_MODEL": serving.model,
    }


def _upstream_variables(upstream: Upstream) -> dict[str, str]:
    """What was not asked for stays as the environment has it. The key itself is in no environment: its file is."""
    told = {
        "URL": upstream.url,
        "TABLE_FILE": upstream.table_file,
        "KEY_FILE": upstream.key_file,
        "REMOTE_MODEL": upstream.model,
        "MAX_FRAMES": upstream.max_frames,
    }
    return {f"MOONTIDE_UPSTREAM_{name}": str(value) for name, value in told.items() if value is not None}
