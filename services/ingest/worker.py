"""The main of a decoder worker: one request at a time from standard input, answers to standard output.

Input: ``DecodeRequest``s and a memory limit on the command line. Output: result files and ``WorkerMessage``s. It may
crash, hang or be killed at any input: it holds nothing, and ends with its parent. Must not know bus, blobs or torch.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import BinaryIO

import av
import av.logging
import cv2
import msgspec

from services.ingest.exchange import (
    DecodeAnswer,
    Decoded,
    DecodeFault,
    DecodeProgress,
    DecodeRefused,
    DecodeRequest,
    WorkerReady,
    pack,
    read_request,
)
from services.ingest.image import prepare_image
from services.ingest.video import Report, prepare_video
from shared.errors import BadInput

PR_SET_PDEATHSIG = 1
PROGRESS_SECONDS = 0.5
DETAIL_CHARACTERS = 4000

Prepare = Callable[[DecodeRequest, Report], Decoded]


def main(prepare: Prepare | None = None) -> None:
    """``python -m services.ingest.worker MEMORY_BYTES``; serves until standard input ends."""
    die_with_parent()
    limit_memory(int(sys.argv[1]))
    cv2.setNumThreads(1)
    av.logging.set_level(av.logging.PANIC)
    answers = _own_output()
    try:
        serve(sys.stdin.buffer, answers, prepare or prepare_media)
    except BrokenPipeError:
        sys.exit(1)


def serve(requests: BinaryIO, answers: BinaryIO, prepare: Prepare) -> None:
    """Answers each request; returns at the end of the pipe or after a fault (its memory is not to be trusted)."""
    send = Sender(answers)
    send.message(WorkerReady())
    while (request := read_request(requests)) is not None:
        limit_processor_time(request.limits.cpu_seconds)
        answer = _answer(request, prepare, send.progress)
        send.message(answer)
        if isinstance(answer, DecodeFault):
            return


def prepare_media(request: DecodeRequest, report: Report) -> Decoded:
    if request.kind == "image":
        report("decoding image")
        return prepare_image(request)
    return prepare_video(request, report)


def _answer(request: DecodeRequest, prepare: Prepare, report: Report) -> DecodeAnswer:
    try:
        return prepare(request, report)
    except BadInput as error:
        return DecodeRefused(code=error.code, text=error.message)
    except MemoryError:
        return DecodeFault(reason="memory", detail="")
    except Exception:  # noqa: BLE001  whatever it is costs this job only, and is reported
        return DecodeFault(reason="crashed", detail=traceback.format_exc()[-DETAIL_CHARACTERS:])


class Sender:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._progressed = 0.0

    def message(self, message: msgspec.Struct) -> None:
        self._stream.write(pack(message))
        self._stream.flush()

    def progress(self, stage: str) -> None:
        """At most twice a second."""
        now = time.monotonic()
        if now - self._progressed >= PROGRESS_SECONDS:
            self._progressed = now
            self.message(DecodeProgress(stage=stage))


def die_with_parent() -> None:
    """SIGKILL when the parent ends, also in the middle of a hanging decoder. Linux; elsewhere the pipe's end is all."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_memory(limit_bytes: int) -> None:
    """Address space of this process: allocations beyond it fail here instead of pressing the machine."""
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_processor_time(seconds: int) -> None:
    """``seconds`` more than used so far; beyond it the kernel sends SIGXCPU, which ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def _own_output() -> BinaryIO:
    """The answer pipe under a number of its own: what a library prints goes to standard error instead."""
    answers = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(answers, "wb")


if __name__ == "__main__":
    main()
