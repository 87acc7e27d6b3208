"""Traces on the terminal without a running recorder: from its database, or from JSON on standard input.

Input: arguments. Output: text or JSON on standard output, and an exit code. It must not need a broker.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
from rich.console import Console

from schemas import codec
from schemas.telemetry import Trace
from services.recorder.handlers import read_trace
from services.recorder.rendering import as_json, as_tree
from services.recorder.store import SpanStore
from shared.errors import MoontideError

PLAIN_WIDTH = 140
"""Columns when the output is not a terminal."""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.recorder")
    commands = parser.add_subparsers(dest="command", required=True)
    trace = commands.add_parser("trace", help="show a trace out of the recorder's database")
    trace.add_argument("id", help="trace id or request id")
    trace.add_argument("--database", type=Path, action="append", required=True, help="may be given several times")
    render = commands.add_parser("render", help="show the trace that is given as JSON on standard input")
    for command in (trace, render):
        command.add_argument("--json", action="store_true")
    return parser


def run(argv: Sequence[str]) -> int:
    """Exit code: 0 shown, 1 not found or not readable (argparse itself exits with 2 on bad use)."""
    options = arguments().parse_args(argv)
    try:
        if options.command == "render":
            trace = from_json(sys.stdin.buffer.read())
        else:
            trace = from_databases(options.database, options.id)
    except (MoontideError, msgspec.DecodeError) as error:
        print(error, file=sys.stderr)
        return 1
    show(trace, json=options.json)
    return 0


def from_databases(paths: Sequence[Path], id: str) -> Trace:
    """Every database that can be read is asked; the others are named on standard error."""
    with ExitStack() as stack:
        stores: list[SpanStore] = []
        for path in paths:
            try:
                stores.append(stack.enter_context(closing(SpanStore.open_read_only(path))))
            except MoontideError as error:
                print(f"{path}: {error}", file=sys.stderr)
        return read_trace(stores, id, time.time_ns())


def from_json(data: bytes) -> Trace:
    """What ``--json`` prints, or a ``Trace`` as the gateway answers it."""
    return codec.decode_json(data, Trace)


def show(trace: Trace, *, json: bool) -> None:
    if json:
        print(codec.encode_json(as_json(trace)).decode())
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(as_tree(trace))
