"""``python -m tests.measure.layer``: one decoder layer of the released size, from a safetensors file, loaded and run.

Writes a checkpoint with the released widths (7168 wide, 384 INT4 experts, 64 heads), one layer and a small vocabulary
to a temporary folder (9.9 GB), loads it in a fresh process and times a prompt of one slice and single tokens.
Prints one JSON object; exit code 1 when it took more than 16 GiB.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from kernels import dispatch
from shared.model.batch import ForwardBatch, Segment
from shared.model.checkpoint import load
from shared.model.decoder import TextModel
from shared.model.pages import PAGE, PagePool
from shared.model.part import Part
from tests.measure.memory import peak_bytes, resident_bytes
from tests.measure.real_layer import write_checkpoint

SLICE = 256
LIMIT_BYTES = 16 * 2**30
TEXT_ONLY = Part(vision=False)


def run(directory: Path, prompt_tokens: int, answer_tokens: int) -> dict[str, Any]:
    before, started = resident_bytes(), time.monotonic()
    checkpoint = load(directory, part=TEXT_ONLY)
    load_seconds, loaded_bytes = time.monotonic() - started, peak_bytes() - before
    text = checkpoint.network.language_model
    pages = -(-(prompt_tokens + answer_tokens) // PAGE)
    pool = text.new_pool(pages)
    with torch.inference_mode():
        prefill_seconds = feed(text, pool, 0, prompt_tokens, SLICE)
        decode_seconds = feed(text, pool, prompt_tokens, prompt_tokens + answer_tokens, 1)
    return {
        "load_seconds": round(load_seconds, 3),
        "load_peak_bytes": loaded_bytes,
        "prefill_tokens_per_second": round(prompt_tokens / prefill_seconds, 2),
        "decode_tokens_per_second": round(answer_tokens / decode_seconds, 3),
        "peak_bytes": peak_bytes(),
        "limit_bytes": LIMIT_BYTES,
        "kernels": dispatch.implementation(),
        "dtype": str(text.dtype).removeprefix("torch."),
        "threads": dispatch.threads(),
    }


def feed(text: TextModel, pool: PagePool, first: int, end: int, step: int) -> float:
    """Seconds for positions first to end - 1 of one sequence, ``step`` at a time."""
    started = time.monotonic()
    for position in range(first, end, step):
        segment = Segment(position, min(step, end - position), range(pool.pages))
        ids = torch.arange(segment.first, segment.end) * 7 % 512
        text(text.embed(ids), ForwardBatch([segment]), pool)
        print(f"position {segment.end} of {end}", file=sys.stderr)
    return time.monotonic() - started


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.layer")
    parser.add_argument("--prompt", type=int, default=256, help="tokens (default: 256)")
    parser.add_argument("--answer", type=int, default=8, help="tokens (default: 8)")
    parser.add_argument("--directory", type=Path, help="a layer written before; what the fresh process is given")
    parsed = parser.parse_args()
    if parsed.directory is None:
        return write_and_run(sys.argv[1:])
    figures = run(parsed.directory, parsed.prompt, parsed.answer)
    print(json.dumps(figures))
    return 0 if figures["peak_bytes"] <= LIMIT_BYTES else 1


def write_and_run(arguments: list[str]) -> int:
    """In a process of its own: what writing took must not count."""
    with tempfile.TemporaryDirectory(prefix="moontide-layer-") as name:
        directory = Path(name) / "layer"
        started = time.monotonic()
        written = write_checkpoint(directory)
        print(f"wrote {written} bytes in {time.monotonic() - started:.1f} s", file=sys.stderr)
        command = [sys.executable, "-m", "tests.measure.layer", "--directory", str(directory), *arguments]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
