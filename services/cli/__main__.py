"""The `moontide` command: reads the arguments, runs one command, turns its end into an exit code.

Exit codes: 0 done, 1 failed, 2 bad use (arguments or environment). Imports no torch, here or below.
"""

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence

from services.cli import (
    analyze,
    attach,
    audit,
    bench,
    chat,
    checkpoint,
    config,
    doctor,
    keys,
    plan,
    run_commands,
    runs,
    terminal,
    trace,
    up,
)
from services.cli import run as agent_run
from services.cli.supervisor import StackFailed
from services.cli.verify import command as verify
from shared.config import ConfigError
from shared.errors import MoontideError

DONE, FAILED, BAD_USE = 0, 1, 2


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """The exit code of one command line."""
    try:
        parsed = parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has said why, or printed its help
        return BAD_USE if stop.code else DONE
    try:
        return _finished(parsed)
    except ConfigError as error:
        for problem in error.problems:
            terminal.report(problem)
        return BAD_USE
    except (MoontideError, StackFailed) as error:
        terminal.report(str(error))
    except KeyboardInterrupt:
        terminal.report("interrupted")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: do not complain at exit
    return FAILED


def _finished(parsed: argparse.Namespace) -> int:
    code = parsed.run(parsed, config.load())
    sys.stdout.flush()
    return code


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="moontide",
        description="Serves Kimi-K2-class multimodal models as event-driven services over NATS.",
        epilog="Exit codes: 0 done, 1 failed, 2 bad use.",
    )
    top.add_argument("--version", action="version", version=_version())
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    runs_of_agents = (agent_run, runs, attach, run_commands)
    for command in (analyze, chat, *runs_of_agents, up, trace, verify, plan, bench, checkpoint, keys, audit, doctor):
        command.add_parser(commands)
    return top


def _version() -> str:
    try:
        return f"moontide {importlib.metadata.version('moontide')}"
    except importlib.metadata.PackageNotFoundError:
        return "moontide (not installed, run from its source folder)"


if __name__ == "__main__":
    main()
