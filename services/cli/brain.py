"""What answers in a stack of this machine: a checkpoint, or an OpenAI-compatible endpoint elsewhere.

Input: the command's arguments. Output: ``Serving``. With an endpoint neither torch nor a checkpoint is needed. It must
not know how a stack is run.
"""

import argparse
from pathlib import Path

from services.cli import checkpoint
from services.cli.config import DataConfig
from services.cli.question import positive
from services.cli.supervisor import Report, StackFailed
from services.cli.topology import Serving, Upstream


def add_options(parser: argparse.ArgumentParser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--checkpoint", type=Path, metavar="DIR", help="weights to serve (default: tiny random ones)")
    either.add_argument("--upstream", metavar="URL", help="serve the model behind this OpenAI-compatible endpoint")
    either.add_argument("--upstream-table", type=Path, metavar="FILE", help="the same for several: a JSON array")
    group = parser.add_argument_group("with --upstream")
    group.add_argument("--upstream-key-file", type=Path, metavar="FILE", help="holds the endpoint's API key")
    group.add_argument("--upstream-model", metavar="NAME", help="its name there (default: the only one listed)")
    group.add_argument("--max-frames", type=positive, metavar="N", help="of a video that goes as images (default: 32)")


def is_given(arguments: argparse.Namespace) -> bool:
    """Whether the person asked for a certain one: then a running stack with another one will not do."""
    return any(given is not None for given in (arguments.checkpoint, arguments.upstream, arguments.upstream_table))


def serving(arguments: argparse.Namespace, data: DataConfig, port: int, report: Report) -> Serving:
    """Raises StackFailed when it cannot be served."""
    if arguments.upstream is None and arguments.upstream_table is None:
        return checkpoint.serving(data, arguments.checkpoint, port, report)
    return Serving(port=port, upstream=upstream(arguments))


def upstream(arguments: argparse.Namespace) -> Upstream:
    """Raises StackFailed when a file that was named is not there."""
    return Upstream(
        url=arguments.upstream,
        table_file=_present("table of endpoints", arguments.upstream_table),
        key_file=_present("key file", arguments.upstream_key_file),
        model=arguments.upstream_model,
        max_frames=arguments.max_frames,
    )


def _present(what: str, path: Path | None) -> Path | None:
    if path is not None and not path.is_file():
        raise StackFailed(f"there is no {what} {path}")
    return path.absolute() if path is not None else None
