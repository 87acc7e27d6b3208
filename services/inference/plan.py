"""``python -m services.inference plan …``: whether a model fits on given devices. Exit codes 0, 1, 2.

Input: arguments. Output: a table and two sentences, one JSON object, or Helm values. A plan that does not fit is an
answer too: exit code 0. Runs without torch, in the base installation.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import msgspec

from services.inference import plan_output
from shared.errors import MoontideError
from shared.model import config as configuration
from shared.model import released
from shared.model.config import ModelConfig
from shared.model.devices import GPUS, HOST_BANDWIDTH, host
from shared.model.fitting import Fleet, Load
from shared.model.plan import plan

HOST_MEMORY_BYTES = 512_000_000_000
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
SIZE = re.compile(r"(\d+(?:\.\d*)?(?:e\d{1,2})?)\s*([kmgt]i?|)b?", re.IGNORECASE)


def main(arguments: list[str]) -> int:
    parser = _parser()
    parsed = parser.parse_args(arguments)
    try:
        return run(parsed)
    except MoontideError as error:
        if error.code == "plan.bad_use":
            parser.error(error.message)
        print(error.message, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="moontide plan",
        description="Whether a model fits on given devices, and how, from its configuration alone.",
        epilog="BYTES: 512e9, 512GB or 476GiB. Exit codes: 0 planned (fitting or not), 1 failed, 2 bad use.",
    )
    known = ", ".join(released.SECTIONS)
    parser.add_argument("--model", required=True, metavar="DIR|NAME", help=f"checkpoint directory, or one of: {known}")
    parser.add_argument("--gpu", choices=["none", *GPUS], default="none", type=str.lower, help="(default: none)")
    parser.add_argument("--count", type=_positive, metavar="N", help="GPUs; hosts with --gpu none (default: 1)")
    parser.add_argument("--context", type=_positive, metavar="TOKENS", help="per sequence (default: the model's)")
    parser.add_argument("--concurrency", type=_positive, default=1, metavar="N", help="sequences at once (default: 1)")
    parser.add_argument("--hosts", type=_positive, metavar="N", help="machines (default: 1)")
    parser.add_argument(
        "--host-memory", type=size, metavar="BYTES", help="per host (default: 512e9 with --hosts or --gpu none, else 0)"
    )
    parser.add_argument(
        "--host-bandwidth",
        type=size,
        default=int(HOST_BANDWIDTH),
        metavar="BYTES",
        help="per host and second (default: 460.8e9, twelve channels of DDR5-4800)",
    )
    parser.add_argument("--slice", type=_positive, default=256, metavar="TOKENS", help="of a prefill (default: 256)")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="one JSON object")
    output.add_argument("--helm", action="store_true", help="values for the chart, if it fits")
    return parser


def run(parsed: argparse.Namespace) -> int:
    name, config = model(parsed.model)
    context = parsed.context or config.text.max_position_embeddings
    load = Load(context=context, concurrency=parsed.concurrency, slice_tokens=parsed.slice)
    found = plan(name, config, fleet(parsed), load)
    if parsed.json:
        print(msgspec.json.encode(found).decode())
    elif not parsed.helm:
        plan_output.show(found)
    elif found.fits:
        print(plan_output.helm_values(found, parsed.slice), end="")
    else:
        print(found.sentence, file=sys.stderr)
        return 1
    return 0


def model(name: str) -> tuple[str, ModelConfig]:
    """Name and configuration. Raises BadInput when there is none."""
    if name in released.SECTIONS:
        return name, configuration.parse(json.dumps(released.document(name)).encode())
    directory = Path(name)
    return directory.resolve().name, configuration.load(directory)


def fleet(parsed: argparse.Namespace) -> Fleet:
    if parsed.gpu == "none":
        device = host(parsed.host_memory or HOST_MEMORY_BYTES, parsed.host_bandwidth)
        return Fleet(device=device, count=parsed.hosts or parsed.count or 1)
    hosts = parsed.hosts or 1
    memory = parsed.host_memory if parsed.host_memory is not None else HOST_MEMORY_BYTES * bool(parsed.hosts)
    return Fleet(
        device=GPUS[parsed.gpu],
        count=parsed.count or 1,
        host_memory_bytes=hosts * memory,
        host_bandwidth_bytes_per_second=hosts * parsed.host_bandwidth,
    )


def size(text: str) -> int:
    """Bytes, from 512e9, 512GB or 476GiB."""
    found = SIZE.fullmatch(text.strip())
    if found is None or (count := int(float(found[1]) * UNITS[found[2].lower()])) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, as 512e9, 512GB or 476GiB")
    return count


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(text)
