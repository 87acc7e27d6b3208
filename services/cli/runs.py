"""`moontide runs`: what runs there are, newest first.

Input: how many, of which status. Output: a table, or one JSON object.
"""

import argparse
import asyncio
import time
from typing import Any, Literal
from urllib.parse import urlencode

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli import session, terminal
from services.cli.config import DataConfig
from services.cli.narration import duration
from services.cli.run_client import Run, RunClient, RunPage

STATUSES = ("queued", "running", "waiting", "paused", "finished", "failed", "cancelled")
COLOURS = {"running": "cyan", "waiting": "yellow", "paused": "yellow", "finished": "green", "failed": "red"}
MAX_LIMIT = 100
COLUMNS = ("run", "status", "step", "tokens", "cost", "age", "goal")
NUMBERS = ("step", "tokens", "cost", "age")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("runs", help="list runs, newest first")
    parser.add_argument("--status", choices=STATUSES, help="only these")
    parser.add_argument("--limit", type=limit, default=20, metavar="N", help="at most so many (default: 20)")
    parser.add_argument("--url", help="gateway to ask (default: all running stacks)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def limit(text: str) -> int:
    """Raises ValueError, which argparse turns into words."""
    number = int(text)
    if not 1 <= number <= MAX_LIMIT:
        raise ValueError(text)
    return number


def run(arguments: argparse.Namespace, data: DataConfig) -> int:
    """Raises MoontideError."""
    return session.run(_run(arguments, data))


async def _run(arguments: argparse.Namespace, data: DataConfig) -> int:
    query = {"limit": arguments.limit} | ({"status": arguments.status} if arguments.status else {})
    urls = await session.known_urls(arguments.url, data)
    pages = await asyncio.gather(*(_page(url, urlencode(query)) for url in urls))
    found: list[dict[str, Any]] = [one for page in pages for one in page]
    found = sorted(found, key=lambda one: one["id"], reverse=True)[: arguments.limit]
    if arguments.json:
        terminal.say_json({"runs": found})
    else:
        _show([msgspec.convert(one, Run) for one in found])
    return 0


async def _page(url: str, query: str) -> list[dict[str, Any]]:
    async with RunClient.connect(url) as client:
        data = await client.runs_json(query)
    msgspec.json.decode(data, type=RunPage)
    return msgspec.json.decode(data)["data"]


def _show(found: list[Run]) -> None:
    if not found:
        terminal.report("no runs")
        return
    table = Table(box=None, pad_edge=False, expand=True)
    for name in COLUMNS:
        justify: Literal["left", "right"] = "right" if name in NUMBERS else "left"
        table.add_column(name, no_wrap=True, overflow="ellipsis", justify=justify, ratio=1 if name == "goal" else None)
    for one in found:
        cost = f"${one.cost_usd:.4f}" if one.cost_usd else ""
        table.add_row(
            terminal.literal(one.id),
            Text(terminal.printable(one.status), style=COLOURS.get(one.status, "dim")),
            str(one.step),
            str(one.usage.total_tokens),
            cost,
            duration(round(max(0.0, time.time() - one.created_at))),
            terminal.literal(one.title),
        )
    Console(highlight=False).print(table)
