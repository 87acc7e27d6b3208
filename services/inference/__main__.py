"""``python -m services.inference``: one inference process; with ``checkpoint``, ``plan`` or ``bench`` a command."""

import sys


def run(arguments: list[str]) -> None:
    """Serve, or run one command and exit with its code."""
    if arguments[:1] == ["plan"]:
        from services.inference.plan import main as plan  # without torch

        sys.exit(plan(arguments[1:]))
    if arguments[:1] == ["bench"]:
        from services.inference.bench.command import main as bench

        sys.exit(bench(arguments[1:]))
    if arguments:
        from services.inference.command import main as command

        sys.exit(command(arguments))
    from services.inference.app import app
    from services.inference.config import InferenceConfig
    from shared.service import Service, main

    main(Service("inference", InferenceConfig, app))


if __name__ == "__main__":
    run(sys.argv[1:])
