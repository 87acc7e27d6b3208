"""A decoder worker that some inputs break: the real one, except for files that begin with a command.

``crash``, ``hang``, ``spin``, ``eat``, ``raise`` and ``babble`` do so at every attempt; ``hang-once`` hangs until its
first worker is gone. A hanging worker leaves its process id in ``<input>.pid``.
"""

import ctypes
import os
import threading
from pathlib import Path

from services.ingest.exchange import Decoded, DecodeRequest
from services.ingest.worker import Report, main, prepare_media

COMMANDS = ("crash", "hang", "spin", "eat", "raise", "babble", "hang-once")


def prepare(request: DecodeRequest, report: Report) -> Decoded:
    source = Path(request.source)
    command, _, rest = source.read_bytes().partition(b"\n")
    if command.decode(errors="replace") not in COMMANDS:
        return prepare_media(request, report)
    _obey(command.decode(), source)
    source.write_bytes(rest)
    return prepare_media(request, report)


def _obey(command: str, source: Path) -> None:
    note = source.with_name(source.name + ".pid")
    if command == "crash":
        ctypes.string_at(0)
    elif command == "hang" or (command == "hang-once" and not note.exists()):
        note.write_text(str(os.getpid()))
        threading.Event().wait()
    elif command == "spin":
        while True:
            pass
    elif command == "eat":
        eaten = []
        while True:
            eaten.append(bytearray(64 * 1024 * 1024))
    elif command == "raise":
        raise RuntimeError("a decoder's own words")
    elif command == "babble":
        os.write(_answer_pipe(), b"\xff" * 64)
        threading.Event().wait()


def _answer_pipe() -> int:
    """The only pipe above the three standard ones."""
    for path in Path("/proc/self/fd").iterdir():
        if int(path.name) > 2 and path.is_fifo():
            return int(path.name)
    raise AssertionError("no answer pipe")


if __name__ == "__main__":
    main(prepare)
