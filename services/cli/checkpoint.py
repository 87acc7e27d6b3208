"""`moontide checkpoint`: make, quantise or look at a checkpoint directory, and the tiny one used when none is given.

The work needs torch and is done by `python -m services.inference checkpoint …` as a program of its own; torch is never
imported here.
"""

import argparse
import fcntl
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from services.cli import terminal, topology
from services.cli.child import die_with_this_process
from services.cli.config import DataConfig
from services.cli.supervisor import Report, StackFailed
from services.cli.topology import Serving
from shared import config as configuration

TINY_MODEL = "moontide-tiny"
TINY_SEED = 0
NOISE_NOTICE = "note: this checkpoint has random weights, so its answers are noise; give --checkpoint DIR for real ones"
INSTALL_LOCAL = (
    "this needs torch: pip install 'moontide[local]' "
    "(without a GPU add --extra-index-url https://download.pytorch.org/whl/cpu for the small build)"
)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("checkpoint", help="make, quantise or look at a checkpoint directory")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    init = actions.add_parser("init", help="random weights in the released format")
    init.add_argument("--preset", default="tiny", help="size of the model (default: tiny)")
    init.add_argument("--seed", type=int, default=0)
    init.add_argument(
        "--experts", default="int4", metavar="FORM", help="routed experts as int4 or bf16 (default: int4)"
    )
    init.add_argument("--out", type=Path, required=True, metavar="DIR")
    init.add_argument("--json", action="store_true", help="one JSON object")
    init.set_defaults(run=run_init)
    quantize = actions.add_parser("quantize", help="from plain weights to the released INT4 layout")
    quantize.add_argument("source", type=Path, metavar="SRC")
    quantize.add_argument("--out", type=Path, required=True, metavar="DIR")
    quantize.add_argument("--json", action="store_true", help="one JSON object")
    quantize.set_defaults(run=run_quantize)
    inspect = actions.add_parser("inspect", help="what a checkpoint directory holds")
    inspect.add_argument("directory", type=Path, metavar="DIR")
    inspect.add_argument("--json", action="store_true", help="one JSON object")
    inspect.set_defaults(run=run_inspect)


def run_init(arguments: argparse.Namespace, data: DataConfig) -> int:
    options = ("--preset", arguments.preset, "--experts", arguments.experts)
    code = _inference("init", *options, *_seed_and_out(arguments.seed, arguments.out))
    if code == 0:
        terminal.say_result({"checkpoint": str(arguments.out)}, f"made {arguments.out}", as_json=arguments.json)
    return code


def run_quantize(arguments: argparse.Namespace, data: DataConfig) -> int:
    code = _inference("quantize", str(arguments.source), "--out", str(arguments.out))
    if code == 0:
        terminal.say_result({"checkpoint": str(arguments.out)}, f"made {arguments.out}", as_json=arguments.json)
    return code


def run_inspect(arguments: argparse.Namespace, data: DataConfig) -> int:
    json_option = ["--json"] if arguments.json else []
    return _inference("inspect", str(arguments.directory), *json_option, to_stdout=True)


def _seed_and_out(seed: int, out: Path) -> tuple[str, ...]:
    return ("--seed", str(seed), "--out", str(out))


def _inference(*arguments: str, to_stdout: bool = False) -> int:
    """Exit code of the program; what it prints goes to the terminal. Raises StackFailed without torch."""
    require_torch()
    done = subprocess.run(
        topology.module_command("services.inference", "checkpoint", *arguments),
        stdin=subprocess.DEVNULL,
        stdout=None if to_stdout else sys.stderr,
        env=topology.with_python_path(configuration.environment()),
        preexec_fn=die_with_this_process(),
        check=False,
    )
    return done.returncode if done.returncode >= 0 else 1


def require_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise StackFailed(INSTALL_LOCAL)


def serving(data: DataConfig, checkpoint: Path | None, port: int, report: Report) -> Serving:
    """What to serve: the given directory, or the tiny checkpoint, made at its first use. Raises StackFailed."""
    require_torch()
    if checkpoint is None:
        return Serving(checkpoint=tiny(data, report), model=TINY_MODEL, port=port)
    if not (checkpoint / "config.json").is_file():
        raise StackFailed(f"{checkpoint} is not a checkpoint directory: it has no config.json")
    directory = checkpoint.resolve()
    return Serving(checkpoint=directory, model=directory.name.lower(), port=port)


def tiny(data: DataConfig, report: Report) -> Path:
    """Directory of the tiny checkpoint. Made beside its place and moved there whole; two makers wait for each other."""
    directory = data.root / "checkpoints" / TINY_MODEL
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "config.json").is_file():
            report("making a tiny checkpoint with random weights (once)")
            _make_tiny(directory)
    return directory


def _make_tiny(directory: Path) -> None:
    partial = directory.with_name(f".{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if _inference("init", "--preset", "tiny", *_seed_and_out(TINY_SEED, partial)) != 0:
        raise StackFailed("the tiny checkpoint could not be made")
    partial.replace(directory)
