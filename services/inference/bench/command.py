"""``python -m services.inference bench engine|serve``: arguments, progress, the report as a table or JSON."""

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import msgspec

import kernels
from services.inference.bench import serve
from services.inference.bench.contest import OURS, Check, Machine, Player, Report, cosine, play, summary
from services.inference.bench.machine import MemoryProbe
from services.inference.bench.runner import Answer, Request
from services.inference.bench.traffic import bytes_per_unit
from services.inference.bench.works import WORKS
from shared.errors import MoontideError
from shared.model import config as configuration
from shared.model import presets
from shared.model.initialise import initialise

PEERS = {"llama.cpp": ("llama_cpp", "gguf"), "transformers": ("transformers",)}
RANKS = presets.BENCH_TEXT["vocab_size"] - presets.SPECIALS


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="moontide bench")
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    add_parser(commands)
    serve.add_parser(commands)
    parsed = parser.parse_args(arguments)
    return parsed.run(parsed)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("engine", help="the model on this machine, beside its peers")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="default: a random K2-shaped one, made for the run"
    )
    parser.add_argument("--peers", action="store_true", help="llama.cpp (Q4_0) and transformers (bfloat16) in turns")
    parser.add_argument("--turns", type=int, default=5, metavar="N", help="alternations that count (default: 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    missing = [module for peer in PEERS.values() for module in peer if find_spec(module) is None]
    if arguments.peers and missing:
        print(f"the peers need: pip install 'moontide[bench]' ({', '.join(missing)} missing)", file=sys.stderr)
        return 1
    try:
        report = measure(arguments)
    except MoontideError as error:
        print(error.message, file=sys.stderr)
        return 1
    print(msgspec.json.encode(report).decode() if arguments.json else table(report))
    return 0


def measure(arguments: argparse.Namespace) -> Report:
    with ExitStack() as stack:
        directory = arguments.checkpoint or made(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        names = [OURS, *(PEERS if arguments.peers else ())]
        players: list[Player] = []
        said: dict[str, Answer] = {}
        for name in names:  # one loads after the other: threads that wait for each other would take twice as long
            say(f"loading {name}")
            players.append(stack.enter_context(Player(name, directory, arguments.threads)))
            said[name] = players[-1].ask(Request())
        probe = MemoryProbe(arguments.threads)
        samples, bandwidths = play(players, WORKS, arguments.turns, probe, say)
        bandwidth = sorted(bandwidths)[len(bandwidths) // 2]
        needed = partial(bytes_per_unit, configuration.load(directory), holds_bf12=kernels.holds_bf12())
        return Report(
            machine=Machine(memory_bandwidth_bytes_per_second=bandwidth, threads=arguments.threads, cpu=cpu_name()),
            rows=[summary(work, samples[work.name], needed(work), bandwidth) for work in WORKS],
            checks=[Check(peer=name, logits_cosine=cosine(said[OURS].logits, said[name].logits)) for name in names[1:]],
            resident_bytes={name: answer.resident_bytes for name, answer in said.items()},
        )


def made(directory: Path) -> Path:
    say("writing a random K2-shaped checkpoint (about 1 GB)")
    out = directory / "bench"
    initialise(out, presets.document("bench", RANKS, "int4"), 0, tokenizer_config=None)
    return out


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def table(report: Report) -> str:
    machine = report.machine
    lines = [
        f"{machine.cpu}, {machine.threads} threads, memory {machine.memory_bandwidth_bytes_per_second / 1e9:.1f} GB/s",
        "",
    ]
    for row in report.rows:
        peers = "  ".join(f"{name} {rate:,.1f} (x {row.ratio[name]:.2f})" for name, rate in row.peers.items())
        limit = f"{row.fraction_of_limit:.0%} of the memory limit"
        lines.append(f"{row.work:<20} {row.moontide:>10,.1f} {row.unit:<9} {limit}  {peers}")
    return "\n".join(lines)
