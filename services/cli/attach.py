"""`moontide attach`: a run from its beginning, then as it happens, from any terminal.

Input: a run's id. Output: its steps, or one JSON object per event. Ctrl-C leaves it alone.
"""

import argparse
import asyncio

from services.cli import following, session, terminal
from services.cli.config import DataConfig
from services.cli.run_client import Event
from services.cli.run_place import add_options, with_run


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("attach", help="watch a run: what it did, then what it does")
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object per event and line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, data: DataConfig) -> int:
    """0 when it finished or was left, 1 when it failed. Raises MoontideError."""
    return session.run(_run(arguments, data), on_signal=following.DONE)


async def _run(arguments: argparse.Namespace, data: DataConfig) -> int:
    async with with_run(arguments, data) as (client, known):
        if not arguments.json:
            terminal.report(f"{known.id}: {known.title} ({known.model}, {known.status})")
        try:
            tell = _print if arguments.json else following.narrate(known.id)
            return following.code_of(await following.follow(client, known.id, tell))
        except asyncio.CancelledError:
            terminal.report(f"detached, the run goes on: moontide attach {known.id}")
            raise


def _print(event: Event, data: bytes) -> None:
    """What is live only has no place to come back to, and is left out."""
    if event.id:
        print(data.decode(), flush=True)
