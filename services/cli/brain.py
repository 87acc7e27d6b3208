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
    group = parser.add_argument_group("with --upstream")
    group.add_argument("--upstream-key-file", type=Path, metavar="FILE", help="holds the endpoint's API key")
    group.add_argument("--upstream-model", metavar="NAME", help="its name there (default: the only one listed)")
    group.add_argument("--max-frames", type=positive, metavar="N", help="of a video that goes as images (default: 32)")


def is_given(arguments: argparse.Namespace) -> bool:
    """Whether the person asked for a certain one: then a running stack with another one will not do."""
    return arguments.checkpoint is not None or arguments.upstream is not None


def serving(arguments: argparse.Namespace, data: DataConfig, port: int, report: Report) -> Serving:
    """Raises StackFailed when it cannot be served."""
    if arguments.upstream is None:
        return checkpoint.serving(data, arguments.checkpoint, port, report)
    return Serving(port=port, upstream=upstream(arguments))


def upstream(arguments: argparse.Namespace) -> Upstream:
    """Raises StackFailed when the key file is not there."""
    key_file: Path | None = arguments.upstream_key_file
    if key_file is not None and not key_file.is_file():
        raise StackFailed(f"there is no key file {key_file}")
    return Upstream(
        url=arguments.upstream,
        key_file=key_file.absolute() if key_file is not None else None,
        model=arguments.upstream_model,
        max_frames=arguments.max_frames,
    )
