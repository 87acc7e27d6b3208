"""``python -m services.inference checkpoint …``: make, quantise, inspect. Exit codes 0, 1, 2."""

import argparse
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import get_args

import msgspec

from shared.clock import Clock, SystemClock
from shared.errors import MoontideError
from shared.language.specials import tokenizer_config
from shared.model import config as configuration
from shared.model import presets
from shared.model.figures import Figures, figures
from shared.model.initialise import initialise
from shared.model.quantise import quantise

PROGRESS_SECONDS = 2.0

WORDS = {
    "parameters_total": "parameters",
    "parameters_active": "active per token",
    "tensor_count": "tensors",
    "weight_bytes": "bytes of weights",
    "cache_bytes_per_token": "bytes of cache per token",
    "context_length": "tokens of context",
}


def main(arguments: list[str]) -> int:
    parsed = _parser().parse_args(arguments)
    try:
        return parsed.run(parsed)
    except MoontideError as error:
        print(error.message, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.inference")
    checkpoint = parser.add_subparsers(required=True).add_parser("checkpoint", help="make or look at a checkpoint")
    commands = checkpoint.add_subparsers(required=True)
    init = commands.add_parser("init", help="random weights in the released format")
    init.add_argument("--preset", choices=sorted(presets.PRESETS), default="tiny")
    init.add_argument("--seed", type=int, default=0)
    init.add_argument("--experts", choices=get_args(presets.Experts), default="int4", help="form of the routed experts")
    init.add_argument("--out", type=Path, required=True, metavar="DIR")
    init.set_defaults(run=run_init)
    quantize = commands.add_parser("quantize", help="from plain weights to the released INT4 layout")
    quantize.add_argument("source", type=Path, metavar="SRC")
    quantize.add_argument("--out", type=Path, required=True, metavar="DIR")
    quantize.set_defaults(run=run_quantize)
    inspect = commands.add_parser("inspect", help="what a checkpoint holds, derived from its config.json")
    inspect.add_argument("directory", type=Path, metavar="DIR")
    inspect.add_argument("--json", action="store_true", help="one JSON object")
    inspect.set_defaults(run=run_inspect)
    return parser


def run_init(parsed: argparse.Namespace) -> int:
    vocabulary = resources.files("shared.language").joinpath("data/tiny.tiktoken").read_bytes()
    ranks = len(vocabulary.splitlines())
    document = presets.document(parsed.preset, ranks, parsed.experts)
    initialise(parsed.out, document, parsed.seed, vocabulary=vocabulary, tokenizer_config=tokenizer_config(ranks))
    return 0


def run_quantize(parsed: argparse.Namespace) -> int:
    quantise(parsed.source, parsed.out, progress=said_every(PROGRESS_SECONDS, SystemClock()))
    return 0


def said_every(seconds: float, clock: Clock) -> Callable[[int, int], None]:
    """Progress on stderr: one line every so many seconds, and one at the end."""
    said = clock.monotonic_seconds()

    def progress(done: int, total: int) -> None:
        nonlocal said
        now = clock.monotonic_seconds()
        if done == total or now - said >= seconds:
            said = now
            print(f"written {done / 1e6:,.0f} of {total / 1e6:,.0f} MB", file=sys.stderr, flush=True)

    return progress


def run_inspect(parsed: argparse.Namespace) -> int:
    derived = figures(configuration.load(parsed.directory))
    print(msgspec.json.encode(derived).decode() if parsed.json else _table(derived))
    return 0


def _table(derived: Figures) -> str:
    values = msgspec.structs.asdict(derived)
    return "\n".join(f"{values[name]:>20,}  {words}" for name, words in WORDS.items())
