"""`moontide up`: broker and all services on this machine, until Ctrl-C, which drains them in order.

Input: a port, a checkpoint or an endpoint, and a data directory. Output: a supervised stack; nothing of it survives
this process.
"""

import argparse
import asyncio
import os
from dataclasses import replace
from pathlib import Path

import msgspec

from services.cli import brain, checkpoint, session, stack, terminal
from services.cli.client import GatewayClient
from services.cli.config import DataConfig
from services.cli.keyring import Keyring
from shared.errors import BadInput


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("up", help="run broker and all services on this machine; Ctrl-C drains")
    parser.add_argument("--port", type=port_number, default=8080, help="port of the gateway (default: 8080)")
    brain.add_options(parser)
    parser.add_argument("--keys-file", type=Path, metavar="FILE", help="API keys, as `moontide keys` makes them")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where stacks and checkpoints are kept")
    parser.add_argument("--json", action="store_true", help="one JSON object once it is ready")
    parser.set_defaults(run=run)


def port_number(text: str) -> int:
    """Raises ValueError, which argparse turns into words."""
    number = int(text)
    if not 1 <= number <= 65535:
        raise ValueError(text)
    return number


def run(arguments: argparse.Namespace, data: DataConfig) -> int:
    """Raises StackFailed when the stack cannot be started or kept running."""
    if arguments.data_dir is not None:
        data = msgspec.structs.replace(data, dir=arguments.data_dir)
    with stack.locked(stack.port_layout(data, arguments.port)) as layout:
        stack.check_port_free(arguments.port)
        serving = brain.serving(arguments, data, arguments.port, terminal.report)
        serving = replace(serving, keys_file=keys_file(arguments.keys_file))

        async def serve(url: str) -> int:
            _announce(url, serving.model or await _first_model(url), as_json=arguments.json)
            await asyncio.Event().wait()
            return 0

        code = session.run(stack.run_with(layout, serving, data, terminal.report, serve), on_signal=0)
        terminal.report("drained")
        return code


def keys_file(path: Path | None) -> Path | None:
    """Absolute. Raises BadInput when it opens nothing: the gateway would not start."""
    if path is not None and not Keyring(path).read().keys:
        advice = f"moontide keys add --tenant NAME --keys-file {path}"
        raise BadInput("keys.file", f"{path} holds no key; make one: {advice}")
    return path.absolute() if path is not None else None


async def _first_model(url: str) -> str:
    """As discovery knows it: only the endpoint can say what it calls itself."""
    async with GatewayClient.open(url) as client:
        return next(iter(await client.ready_models()), "no model")


def _announce(url: str, model: str, *, as_json: bool) -> None:
    if model == checkpoint.TINY_MODEL:
        terminal.report(checkpoint.NOISE_NOTICE)
    value = {"url": url, "model": model, "pid": os.getpid()}
    words = f"{model} is served at {url}/v1 (openai clients work with it); Ctrl-C stops everything"
    terminal.say_result(value, words, as_json=as_json)
