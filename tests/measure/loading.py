"""``python -m tests.measure.loading DIR``: what loading takes at its peak, and what stays. One JSON object.

To be run in a process of its own: peaks of a process are never forgotten. All figures but ``weight_bytes`` are growth
of the resident set over that of the process with all imports and an empty network. ``resident_bytes`` is measured
after every weight was read once, so that pages of mapped weights count too.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from shared.model import config as configuration
from shared.model.checkpoint import load
from shared.model.network import build
from shared.model.part import EVERYTHING, Part
from tests.measure.memory import peak_bytes, resident_bytes

PIECE = 2**20


def measure(directory: Path, dtype: torch.dtype, part: Part) -> dict[str, float]:
    build(configuration.load(directory))  # what torch imports late is not the checkpoint's
    before, started = resident_bytes(), time.monotonic()
    network = load(directory, dtype=dtype, part=part).network
    load_seconds, load_peak = time.monotonic() - started, peak_bytes()
    weights = list(network.held_tensors())
    for weight in weights:
        for piece in weight.view(torch.uint8).flatten().split(PIECE):
            piece.max()
    return {
        "weight_bytes": sum(weight.nbytes for weight in weights),
        "load_peak_bytes": load_peak - before,
        "peak_bytes": peak_bytes() - before,
        "resident_bytes": resident_bytes() - before,
        "load_seconds": round(load_seconds, 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.loading")
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--layer", type=int, help="one decoder layer alone")
    parsed = parser.parse_args()
    part = EVERYTHING
    if parsed.layer is not None:
        layers = range(parsed.layer, parsed.layer + 1)
        part = Part(layers=layers, embeddings=False, head=False, vision=False)
    print(json.dumps(measure(parsed.directory, getattr(torch, parsed.dtype), part)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
