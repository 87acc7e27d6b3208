"""``python -m services.recorder``: the service; with ``trace`` or ``render``: a trace on the terminal."""

import sys

from services.recorder import command


def main() -> None:
    if len(sys.argv) > 1:
        sys.exit(command.run(sys.argv[1:]))
    # Imported here, so that showing a trace needs neither the bus nor a configuration.
    from services.recorder.app import app
    from services.recorder.config import RecorderConfig
    from shared import service

    service.main(service.Service(name="recorder", config=RecorderConfig, app=app))


if __name__ == "__main__":
    main()
