"""Which gateway answers: the one that was named, else a running stack, else one started for this command alone.

Input: the command's arguments and what to do with a gateway. Output: its exit code, after everything is stopped again.
"""

import argparse
import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from services.cli import brain, checkpoint, stack
from services.cli.client import GatewayClient
from services.cli.config import DataConfig
from services.cli.supervisor import Report
from shared.errors import NotFound

INTERRUPTED = 1


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", help="gateway to ask (default: a running stack, else one of its own)")
    brain.add_options(parser)


def with_gateway(
    arguments: argparse.Namespace, data: DataConfig, report: Report, body: Callable[[str], Awaitable[int]]
) -> int:
    """``body(url)``'s exit code. Raises StackFailed, MoontideError."""
    url = running_url(arguments, data)
    if url is not None:
        return run(_call(body, url))
    with stack.locked_own(data) as layout:
        serving = brain.serving(arguments, data, 0, report)
        report(f"starting a stack of its own in {layout.directory}")
        return run(stack.run_with(layout, serving, data, report, body))


def running_url(arguments: argparse.Namespace, data: DataConfig) -> str | None:
    """None: a stack has to be started for the command."""
    if arguments.url or brain.is_given(arguments):
        return arguments.url
    states = asyncio.run(stack.running(data, "port-*"))
    return states[0].url if states else None


async def _call(body: Callable[[str], Awaitable[int]], url: str) -> int:
    return await body(url)


def run(work: Coroutine[Any, Any, int], *, on_signal: int = INTERRUPTED) -> int:
    """Run to the end. SIGINT, SIGTERM and SIGHUP cancel it and wait for it; the exit code is ``on_signal`` then."""
    return asyncio.run(_cancelled_by_signals(work, on_signal))


async def _cancelled_by_signals(work: Coroutine[Any, Any, int], on_signal: int) -> int:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return on_signal


async def choose_model(client: GatewayClient, wanted: str | None, report: Report) -> str:
    """The wanted model, else the first one served. Raises NotFound when none is."""
    models = [wanted] if wanted else await client.models()
    if not models:
        raise NotFound("model.none", f"{client.url} serves no model")
    if models[0] == checkpoint.TINY_MODEL:
        report(checkpoint.NOISE_NOTICE)
    return models[0]


async def known_urls(url: str | None, data: DataConfig) -> list[str]:
    """The named gateway, else those of all running stacks. Raises NotFound when there is none."""
    urls = [url] if url else [state.url for state in await stack.running(data)]
    if not urls:
        raise NotFound("stack.none", "no stack is running here: start one with `moontide up`, or name one with --url")
    return urls
