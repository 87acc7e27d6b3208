"""One contender in a process of its own: ``python -m services.inference.bench.runner NAME DIRECTORY THREADS``.

Input: a JSON request per line on standard input. Output: a JSON line each, with seconds or logits. Thread pools of
different libraries would wait for each other in one process; here all but one contender sleep.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from services.inference.bench.works import Contender, Work, prompt

GGUF = "model.q4_0.gguf"
CHECK_TOKENS = 32


class Request(msgspec.Struct, frozen=True):
    """``work`` None asks for the logits of a short prompt."""

    work: Work | None = None


class Answer(msgspec.Struct, frozen=True):
    seconds: float = 0.0
    logits: list[float] = []
    resident_bytes: int = 0


def moontide(directory: Path, threads: int) -> Contender:
    from services.inference.bench.moontide_contender import MoontideContender

    return MoontideContender(directory, threads)


def transformers(directory: Path, threads: int) -> Contender:
    from services.inference.bench.transformers_contender import TransformersContender

    return TransformersContender(directory, threads)


def llama_cpp(directory: Path, threads: int) -> Contender:
    from services.inference.bench import gguf_file
    from services.inference.bench.llama_contender import LlamaContender

    file = directory / GGUF
    if not file.exists():
        gguf_file.write(directory, file)
    return LlamaContender(directory, file, threads)


CONTENDERS: dict[str, Callable[[Path, int], Contender]] = {
    "moontide": moontide,
    "llama.cpp": llama_cpp,
    "transformers": transformers,
}


def answer(contender: Contender, request: Request, vocabulary: int) -> Answer:
    if request.work is None:
        return Answer(logits=contender.logits(prompt(CHECK_TOKENS, 0, vocabulary)), resident_bytes=resident_bytes())
    work = request.work
    if work.kind == "decode":
        return Answer(seconds=contender.decode(work.rows, work.repeats))
    if work.kind == "prefill":
        return Answer(seconds=contender.prefill(work.rows))
    return Answer(seconds=contender.experts(work.rows, work.repeats))


def resident_bytes() -> int:
    """Of this process, from /proc (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(arguments: list[str]) -> None:
    from shared.model import config as configuration

    name, directory, threads = arguments[0], Path(arguments[1]), int(arguments[2])
    vocabulary = configuration.load(directory).text.vocab_size
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    contender = CONTENDERS[name](directory, threads)
    for line in sys.stdin.buffer:
        out.write(msgspec.json.encode(answer(contender, msgspec.json.decode(line, type=Request), vocabulary)) + b"\n")
        out.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
