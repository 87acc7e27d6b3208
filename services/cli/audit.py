"""`moontide audit`: whether every accepted id has one ending, and every ledger holds together.

Input: a stack that runs, or what one that ran here has kept; with `NATS_URL`, that broker. Output: what was looked at,
every violation, and exit code 1 if there is one. It changes nothing. What a violation is, `shared/ledger` says.
"""

import argparse
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from services.cli import session, stack, terminal
from services.cli.config import DataConfig
from services.cli.topology import Layout
from shared import config as configuration
from shared.blobs.store import BlobStore
from shared.bus.broker import Broker
from shared.bus.connection import BusConfig, connect
from shared.bus.interface import Bus
from shared.clock import SystemClock
from shared.errors import NotFound
from shared.ledger.inspection import Inspection, Report

CONNECT_SECONDS = 10.0


class BlobsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The services' own variable: beside a broker elsewhere, where its blobs are."""

    blobs_url: str | None = None


@dataclass(frozen=True)
class Evidence:
    """What is looked at."""

    name: str
    bus: Bus
    blobs: BlobStore | None
    live: bool
    """Services run: open work has a holder."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("audit", help="violations in what streams and ledgers hold")
    parser.add_argument(
        "--stack", metavar="NAME", help="like port-8080 (default: one that runs, else the last that did)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, data: DataConfig) -> int:
    """1 when there is a violation. Raises NotFound without a stack, Unavailable when its broker cannot be read."""
    return session.run(_run(arguments, data))


async def _run(arguments: argparse.Namespace, data: DataConfig) -> int:
    async with _evidence(arguments.stack, data) as evidence:
        inspection = Inspection(evidence.bus, SystemClock(), evidence.blobs, live=evidence.live)
        report = await inspection.report()
    if arguments.json:
        terminal.say_json({"stack": evidence.name, "live": evidence.live, **msgspec.to_builtins(report)})
    else:
        terminal.say(words(evidence, report))
    return 1 if report.findings else 0


def words(evidence: Evidence, report: Report) -> str:
    lines = [
        f"{finding.code}  {finding.id}{f'  at {finding.sequence}' if finding.sequence else ''}  {finding.detail}"
        for finding in report.findings
    ]
    looked = f"{report.requests} accepted ids, {report.runs} runs with {report.entries} entries, {report.blobs} blobs"
    verdict = f"{len(lines)} violations" if lines else "no violation"
    return "\n".join([*lines, f"{evidence.name}: {looked}: {verdict}"])


@asynccontextmanager
async def _evidence(name: str | None, data: DataConfig) -> AsyncIterator[Evidence]:
    async with AsyncExitStack() as open_until_read:
        if data.nats_url is not None and name is None:
            config, live, title = configuration.load(BusConfig, "BUS"), True, data.nats_url
            url = configuration.load(BlobsConfig, "SERVICE").blobs_url
        else:
            layout = _layout(name, data)
            config, live = await open_until_read.enter_async_context(_broker(layout))
            title, url = layout.directory.name, layout.blobs.as_uri()
        config = msgspec.structs.replace(config, connect_seconds=CONNECT_SECONDS)
        bus = await open_until_read.enter_async_context(connect(config, "audit"))
        yield Evidence(title, bus, BlobStore.open(url) if url is not None else None, live)


@asynccontextmanager
async def _broker(layout: Layout) -> AsyncIterator[tuple[BusConfig, bool]]:
    """Its broker, and whether the stack runs; one that does not gets its broker for as long as it is looked at."""
    lock = stack.Lock.take(layout)
    if lock is None:
        yield Broker.running(layout.broker), True
        return
    try:
        broker = Broker.prepare(layout.broker)
        await broker.start()
        try:
            yield broker.config, False
        finally:
            await broker.stop()
    finally:
        lock.release()


def _layout(name: str | None, data: DataConfig) -> Layout:
    """Raises NotFound."""
    directories = stack.stacks_dir(data).glob("*") if name is None else [stack.stacks_dir(data) / name]
    layouts = [Layout(path) for path in directories if (path / "broker" / "port").exists()]
    if not layouts:
        raise NotFound("audit.no_stack", f"no stack has run in {data.root}" if name is None else f"no stack {name}")
    running = [layout for layout in layouts if stack.read_state(layout) is not None]
    return max(running or layouts, key=lambda layout: _used(layout.broker))


def _used(broker: Path) -> float:
    """When it was last started: its process id is written then."""
    pid = broker / "pid"
    return (pid if pid.exists() else broker / "port").stat().st_mtime
