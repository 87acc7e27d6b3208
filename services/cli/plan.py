"""`moontide plan`: whether a model fits on given devices, from its configuration alone.

`python -m services.inference plan …` reads the arguments and does the work; it runs without torch.
"""

import argparse
import subprocess

from services.cli import topology
from services.cli.child import die_with_this_process
from services.cli.config import DataConfig
from shared import config as configuration


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    # Without a prefix character nothing is an option here, so that all arguments reach the program, --help included.
    parser = commands.add_parser("plan", help="what fits on which devices", prefix_chars="\0", add_help=False)
    parser.add_argument("arguments", nargs="*")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, data: DataConfig) -> int:
    """Exit code of the program, whose output goes to the terminal."""
    done = subprocess.run(
        topology.module_command("services.inference", "plan", *arguments.arguments),
        stdin=subprocess.DEVNULL,
        env=topology.with_python_path(configuration.environment()),
        preexec_fn=die_with_this_process(),
        check=False,
    )
    return done.returncode if done.returncode >= 0 else 1
