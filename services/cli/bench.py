"""`moontide bench serve|engine`: how fast serving is here, and whether it keeps its promises.

`python -m services.inference bench …` reads the arguments and does the work, since it needs torch.
"""

import argparse
import subprocess

from services.cli import topology
from services.cli.checkpoint import require_torch
from services.cli.child import die_with_this_process
from services.cli.config import DataConfig
from shared import config as configuration


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    # As in `plan`: nothing is an option here, so that all arguments reach the program, --help included.
    parser = commands.add_parser("bench", help="measure serving, or the engine", prefix_chars="\0", add_help=False)
    parser.add_argument("arguments", nargs="*")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, data: DataConfig) -> int:
    """Exit code of the program, whose output goes to the terminal. Raises StackFailed without torch."""
    require_torch()
    done = subprocess.run(
        topology.module_command("services.inference", "bench", *arguments.arguments),
        stdin=subprocess.DEVNULL,
        env=topology.with_python_path(configuration.environment()),
        preexec_fn=die_with_this_process(),
        check=False,
    )
    return done.returncode if done.returncode >= 0 else 1
