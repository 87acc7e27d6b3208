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

from services.inference.config import InferenceConfig
from schemas.shards import Draw, Forward, SamplingRule, SequenceOpened, Slice
from services.inference.admission import encode_ids
from services.inference.shard import Layers
from shared.model.checkpoint import load
from shared.model.pages import PAGE
from shared.model.part import Part
from tests.measure.memory import peak_bytes, resident_bytes
from tests.measure.real_layer import write_checkpoint

LIMIT_BYTES = 16 * 2**30
TEXT_ONLY = Part(vision=False)


def run(directory: Path, prompt_tokens: int, answer_tokens: int) -> dict[str, Any]:
    before, started = resident_bytes(), time.monotonic()
    checkpoint = load(directory, dtype=torch.float32, part=TEXT_ONLY)
    load_seconds, loaded_bytes = time.monotonic() - started, peak_bytes() - before
    pages = -(-(prompt_tokens + answer_tokens) // PAGE)
    layers = Layers(checkpoint.network, checkpoint.network.language_model.new_pool(pages))
    prefill_seconds = prefill(layers, prompt_tokens, pages)
    started = time.monotonic()
    for token in range(answer_tokens):
        layers.run(forward(prompt_tokens + token, [token]))
    decode_seconds = time.monotonic() - started
    return {
        "load_seconds": round(load_seconds, 3),
        "load_peak_bytes": loaded_bytes,
        "prefill_tokens_per_second": round(prompt_tokens / prefill_seconds, 2),
        "decode_tokens_per_second": round(answer_tokens / decode_seconds, 3),
        "peak_bytes": peak_bytes(),
        "limit_bytes": LIMIT_BYTES,
        "threads": torch.get_num_threads(),
    }


def forward(first: int, ids: list[int], pages: int = 0) -> Forward:
    """The next positions of the one sequence; ``pages``: it begins, on so many pages."""
    opened = (SequenceOpened(sequence=1, rule=SamplingRule()),) if pages else ()
    piece = Slice(
        sequence=1,
        first=first,
        ids=encode_ids(ids),
        pages_from=0,
        pages=tuple(range(pages)),
        draw=Draw(position=first),
    )
    return Forward(number=first + 1, opened=opened, slices=(piece,))


def prefill(layers: Layers, tokens: int, pages: int) -> float:
    """Seconds for a prompt in the slices that the service uses by default."""
    step = InferenceConfig(checkpoint_dir=Path()).prefill_slice_tokens
    ids, started = [7 * token % 512 for token in range(tokens)], time.monotonic()
    for first in range(0, tokens, step):
        layers.run(forward(first, ids[first : first + step], 0 if first else pages))
        print(f"prefill {min(first + step, tokens)} of {tokens}", file=sys.stderr)
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
