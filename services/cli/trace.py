"""`moontide trace`: the spans of one request, as a tree or as JSON.

Input: a trace id or a request id. Output: what a running stack knows of it, else what the stacks that ran here have
kept. Both forms are made by `python -m services.recorder`, which owns spans.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from schemas import codec
from schemas.telemetry import Trace
from services.cli import session, stack, terminal, topology
from services.cli.child import die_with_this_process
from services.cli.client import GatewayClient
from services.cli.config import DataConfig
from services.cli.topology import Layout
from shared import config as configuration
from shared.errors import MoontideError

SETTLE_SECONDS = 3.0
"""How long the last spans of a request may take to arrive at the recorder."""


class SpanEnd(msgspec.Struct, frozen=True):
    parent_span_id: str | None = None
    end_unix_nanoseconds: int | None = None


class TraceEnds(msgspec.Struct, frozen=True):
    spans: tuple[SpanEnd, ...]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("trace", help="the tree of a request, with times")
    parser.add_argument("id", type=identifier, metavar="ID", help="trace id or request id")
    parser.add_argument("--url", help="gateway to ask (default: all running stacks, then the kept traces)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def identifier(text: str) -> str:
    """Raises ValueError, which argparse turns into words."""
    if not text or not all(letter.isascii() and (letter.isalnum() or letter in "-_") for letter in text):
        raise ValueError(text)
    return text


def run(arguments: argparse.Namespace, data: DataConfig) -> int:
    """1 when nobody knows the id."""
    return session.run(_run(arguments, data))


async def _run(arguments: argparse.Namespace, data: DataConfig) -> int:
    urls = [arguments.url] if arguments.url else [state.url for state in await stack.running(data)]
    found = [body for body in await asyncio.gather(*(_ask(url, arguments.id) for url in urls)) if body]
    if not found:
        return 1 if arguments.url else await _kept(arguments.id, data, as_json=arguments.json)
    return await render(found[0], as_json=arguments.json)


async def _ask(url: str, trace_id: str) -> bytes | None:
    try:
        async with GatewayClient.open(url) as client:
            return await client.trace(trace_id)
    except MoontideError as error:
        if error.status != 404:
            terminal.report(error.message)
        return None


async def _kept(trace_id: str, data: DataConfig, *, as_json: bool) -> int:
    """Asks the recorder's databases of stacks that do not run."""
    databases = _databases(stack.stacks_dir(data))
    if not databases:
        terminal.report(f"nobody knows {trace_id}: no stack runs, and none has kept traces in {data.root}")
        return 1
    options = [option for path in databases for option in ("--database", str(path))]
    return await _recorder("trace", trace_id, *options, *(["--json"] if as_json else []))


def _databases(stacks: Path) -> list[Path]:
    layouts = [Layout(path) for path in sorted(stacks.glob("*"))]
    return [layout.spans for layout in layouts if layout.spans.exists()]


async def render(trace: bytes, *, as_json: bool = False) -> int:
    """Print a trace (JSON, as a gateway answers it) as a tree, or as the one documented JSON object."""
    return await _recorder("render", *(["--json"] if as_json else []), standard_input=trace)


async def _recorder(*arguments: str, standard_input: bytes = b"") -> int:
    sys.stdout.flush()
    process = await asyncio.create_subprocess_exec(
        *topology.module_command("services.recorder", *arguments),
        stdin=subprocess.PIPE,
        env=topology.with_python_path(configuration.environment()),
        preexec_fn=die_with_this_process(),
    )
    await process.communicate(standard_input)
    return 0 if process.returncode == 0 else 1


async def finished(client: GatewayClient, trace_id: str) -> bytes | None:
    """The trace of a request that has just ended, as JSON, once its last spans have arrived; None if they do not."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        body = await _closed(client, trace_id)
        if body is not None or time.monotonic() > end:
            return body
        await asyncio.sleep(0.1)


def read(body: bytes | None) -> Trace | None:
    """Raises nothing: a trace that cannot be read is no trace."""
    try:
        return codec.decode_json(body, Trace) if body is not None else None
    except msgspec.MsgspecError:
        return None


async def show(body: bytes | None, trace_id: str) -> None:
    """The tree of a finished request."""
    if body is None:
        terminal.report(f"the trace is not complete yet: moontide trace {trace_id}")
    else:
        await render(body)


async def _closed(client: GatewayClient, trace_id: str) -> bytes | None:
    """The trace when it has a root and every span has ended."""
    try:
        body = await client.trace(trace_id)
        spans = codec.decode_json(body, TraceEnds).spans
    except (MoontideError, msgspec.MsgspecError):
        return None
    has_root = any(not span.parent_span_id for span in spans)
    return body if has_root and all(span.end_unix_nanoseconds for span in spans) else None
