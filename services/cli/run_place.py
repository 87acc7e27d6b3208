"""Which of the running stacks has a run.

Input: a run's id, perhaps a gateway. Output: a client of the gateway that knows the run, and the run.
"""

import argparse
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.cli import session
from services.cli.config import DataConfig
from services.cli.run_client import Run, RunClient
from shared.errors import MoontideError, NotFound

_RUN_ID = re.compile(r"run-[a-z2-7]{26}")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", type=run_id, metavar="ID", help="the run")
    parser.add_argument("--url", help="gateway to ask (default: all running stacks)")


def run_id(text: str) -> str:
    """Raises ValueError, which argparse turns into words."""
    if not _RUN_ID.fullmatch(text):
        raise ValueError(text)
    return text


@asynccontextmanager
async def with_run(arguments: argparse.Namespace, data: DataConfig) -> AsyncIterator[tuple[RunClient, Run]]:
    """Raises NotFound when nobody knows it."""
    failure: MoontideError = NotFound("run.not_found", f"nobody knows {arguments.id}")
    for url in await session.known_urls(arguments.url, data):
        async with RunClient.connect(url) as client:
            try:
                known = await client.run(arguments.id)
            except MoontideError as error:
                failure = failure if error.status == 404 else error
                continue
            yield client, known
            return
    raise failure
