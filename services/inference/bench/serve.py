"""``python -m services.inference bench serve``: an engine under arrivals, and what the schedule promises.

Input: arguments. Output: a table, or one JSON object. Throughput, times and memory come from a whole engine in this
process in real time; prefix hits of many agents, fair shares and floods from the schedule in virtual time. Exit code 1
when a promise is broken.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from services.inference.bench import serve_agents, serve_shares
from services.inference.bench.serve_load import Rig, rig
from services.inference.bench.serve_report import Load, Memory, ServeReport, load, table
from services.inference.bench.serve_traffic import sessions
from shared.errors import MoontideError
from shared.model import presets
from shared.model.initialise import initialise
from shared.model.pages import PAGE, latent_width

TINY_VOCABULARY = 512
PROGRESS_SECONDS = 2.0
CALLS_EACH = 12
FORMULA = "pages * 64 positions * layers * (latent + rotated key) * bytes of a number"
FORMULA_NUMBER_BYTES = 4

Progress = Callable[[str], None]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("serve", help="the engine under arrivals: times, prefix hits, memory, fairness")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: a tiny random one, made for the run")
    parser.add_argument("--seconds", type=float, default=30.0, metavar="S", help="of arrivals (default: 30)")
    parser.add_argument("--sessions-per-second", type=float, default=3.0, metavar="R", help="Poisson (default: 3)")
    parser.add_argument("--pages", type=int, default=512, metavar="N", help="of the cache (default: 512)")
    parser.add_argument("--agents", type=int, default=300, metavar="N", help="that share prefixes (default: 300)")
    parser.add_argument("--forwards", type=int, default=2500, metavar="N", help="of the fairness part (default: 2500)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    problem = _refused(arguments)
    if problem:
        print(problem, file=sys.stderr)
        return 2
    try:
        report = measure(arguments, say)
    except MoontideError as error:
        print(error.message, file=sys.stderr)
        return 1
    print(msgspec.json.encode(report).decode() if arguments.json else table(report))
    return 0 if report.kept else 1


def _refused(arguments: argparse.Namespace) -> str | None:
    """Which argument makes no sense."""
    for name in ("seconds", "sessions_per_second", "pages", "agents", "forwards"):
        if not 0 < getattr(arguments, name) < 10**6:
            return f"--{name.replace('_', '-')} must lie between 0 and a million"
    return None


def measure(arguments: argparse.Namespace, progress: Progress) -> ServeReport:
    with tempfile.TemporaryDirectory(prefix="moontide-bench-") as name:
        directory = arguments.checkpoint or tiny(Path(name) / "tiny", arguments.seed)
        loaded, memory = asyncio.run(_loaded(directory, arguments, progress))
    return ServeReport(
        seed=arguments.seed,
        load=loaded,
        memory=memory,
        prefixes=serve_agents.measure(arguments.agents, CALLS_EACH, arguments.seed, progress),
        fairness=serve_shares.shares(arguments.seed, arguments.forwards, progress),
        flood=serve_shares.floods(arguments.seed, progress),
    )


async def _loaded(directory: Path, arguments: argparse.Namespace, progress: Progress) -> tuple[Load, Memory]:
    async with rig(directory, arguments.pages) as driven:
        saying = asyncio.create_task(_say(driven, progress))
        started = driven.clock.monotonic_seconds()
        arriving = sessions(arguments.seed, arguments.sessions_per_second, driven.config.text.vocab_size)
        try:
            await driven.load(arriving, arguments.seconds)
        finally:
            saying.cancel()
        seconds = driven.clock.monotonic_seconds() - started
        engine = driven.engine
        found = load(driven.tally, seconds, arguments.sessions_per_second, engine.largest_batch, engine.preempted)
        return found, _memory(driven)


def _memory(driven: Rig) -> Memory:
    engine, cache, text = driven.engine, driven.engine.state.cache, driven.config.text
    size = PAGE * text.num_hidden_layers * latent_width(text) * FORMULA_NUMBER_BYTES
    return Memory(
        formula=FORMULA,
        page_tokens=cache.page_tokens,
        page_bytes=engine.about.page_bytes,
        page_bytes_by_formula=size,
        cache_pages=cache.pages,
        cache_bytes=cache.pages * engine.about.page_bytes,
        peak_running_pages=driven.tally.peak_pages,
        peak_running_bytes=driven.tally.peak_pages * engine.about.page_bytes,
        sequences_off_formula=driven.tally.odd_tables,
        pages_lost=cache.pages - cache.available,
    )


async def _say(driven: Rig, progress: Progress) -> None:
    while True:
        await driven.clock.sleep(PROGRESS_SECONDS)
        tally = driven.tally
        progress(f"{tally.calls} calls answered, {driven.engine.load} open, {tally.answer_tokens:,} tokens")


def tiny(directory: Path, seed: int) -> Path:
    initialise(directory, presets.document("tiny", TINY_VOCABULARY), seed, tokenizer_config=None)
    return directory


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
