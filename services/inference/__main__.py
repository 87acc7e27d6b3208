"""``python -m services.inference``: one inference process; with ``checkpoint …`` the command line for checkpoints."""

import sys


def run(arguments: list[str]) -> None:
    """Serve, or run one command and exit with its code."""
    if arguments:
        from services.inference.command import main as command

        sys.exit(command(arguments))
    from services.inference.app import app
    from services.inference.config import InferenceConfig
    from shared.service import Service, main

    main(Service("inference", InferenceConfig, app))


if __name__ == "__main__":
    run(sys.argv[1:])
