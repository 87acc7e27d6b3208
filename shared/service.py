"""One process of a service: configuration, logging, bus, telemetry, readiness, ordered drain, exit code.

A service is a ``Service(name, config, app)``; ``app(config, process)`` is an async context manager: entered it serves,
leaving it drains. Exit codes: 0 drained after SIGTERM or SIGINT, 1 failed, 2 bad configuration.
"""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from shared import config as configuration
from shared.blobs.store import BlobStore
from shared.bus.connection import BusConfig, connect
from shared.bus.interface import Bus
from shared.clock import Clock, SystemClock
from shared.errors import MoontideError
from shared.telemetry.tracing import Telemetry

ConfigT = TypeVar("ConfigT", bound=msgspec.Struct)


class ProcessConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Area SERVICE: the same for every service."""

    blobs_url: str
    """``file:///…`` or ``s3://bucket/prefix``."""
    ready_file: Path | None = None
    """Exists exactly while the service is ready: for `up` and for exec probes."""
    drain_seconds: float = 20.0
    log_level: str = "INFO"
    otlp_endpoint: str | None = None


@dataclass(frozen=True)
class Process:
    """What a service is given."""

    name: str
    bus: Bus
    blobs: BlobStore
    telemetry: Telemetry
    clock: Clock = field(default_factory=SystemClock)


@dataclass(frozen=True)
class Service(Generic[ConfigT]):
    name: str
    config: type[ConfigT]
    app: Callable[[ConfigT, Process], AbstractAsyncContextManager[Any]]


def main(service: Service[Any]) -> None:
    """Run the service until a signal; exits the process."""
    sys.exit(run(service))


def run(service: Service[Any]) -> int:
    try:
        common = configuration.load(ProcessConfig, "SERVICE")
        own = configuration.load(service.config, service.name)
        bus = configuration.load(BusConfig, "BUS")
    except configuration.ConfigError as error:
        for problem in error.problems:
            print(f"{service.name}: {problem}", file=sys.stderr)
        return 2
    setup_logging(service.name, common.log_level)
    try:
        asyncio.run(_serve(service, own, common, bus))
    except MoontideError as error:
        logging.getLogger(service.name).error("service failed", extra={"code": error.code, "reason": error.message})
        return 1
    return 0


async def _serve(service: Service[Any], own: Any, common: ProcessConfig, bus_config: BusConfig) -> None:
    stopping = _stop_on_signals()
    async with process(service.name, common, bus_config) as this, service.app(own, this):
        log = logging.getLogger(service.name)
        _set_ready(common.ready_file, True)
        log.info("service ready", extra={"instance": this.bus.instance})
        try:
            await stopping.wait()
        finally:
            _set_ready(common.ready_file, False)
        log.info("service draining")
        asyncio.get_running_loop().call_later(common.drain_seconds, _give_up, service.name)
    logging.getLogger(service.name).info("service drained")


@asynccontextmanager
async def process(name: str, common: ProcessConfig, bus_config: BusConfig) -> AsyncIterator[Process]:
    """Bus, blobs and telemetry of one process, started in order and stopped in reverse."""
    async with connect(bus_config, name) as bus:
        telemetry = Telemetry(service=name, instance=bus.instance, bus=bus, otlp_endpoint=common.otlp_endpoint)
        async with telemetry.running():
            yield Process(name=name, bus=bus, blobs=BlobStore.open(common.blobs_url), telemetry=telemetry)


def _stop_on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


def _set_ready(path: Path | None, ready: bool) -> None:
    if path is not None and ready:
        path.touch()
    elif path is not None:
        path.unlink(missing_ok=True)


def _give_up(name: str) -> None:
    """The drain took too long: what is still running is interrupted hard; callers restart it elsewhere."""
    logging.getLogger(name).error("drain timed out")
    logging.shutdown()
    signal.raise_signal(signal.SIGKILL)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``ts level event`` and the fields given in ``extra``."""

    _standard = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            "service": self._service,
            "event": record.getMessage(),
        }
        line |= {key: value for key, value in record.__dict__.items() if key not in self._standard}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def setup_logging(service: str, level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("nats").setLevel("CRITICAL")
