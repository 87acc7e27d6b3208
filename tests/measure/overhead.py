"""``python -m tests.measure.overhead``: what moontide in front of an endpoint costs, against the endpoint alone.

An endpoint that paces its tokens, a whole stack (`moontide up --upstream`) and whoever loads them are processes of
their own. One stream at a time gives the time to the first token; many at once give the token rate and, from ``/proc``,
the processor seconds of gateway, upstream and broker. Both ways take turns in one run. Prints one JSON object; exit
code 1 when a bound of the promise is broken.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tests.e2e.stack import ROOT, Stack, environment, running
from tests.measure.load import Plan, Round

PROCESSES = {"gateway": "services.gateway", "upstream": "services.upstream", "broker": "nats-server"}
FIRST_TOKEN_SECONDS = 0.005
RATE_RATIO = 0.97
WARM_UP_ROUNDS = 3
DIRECT, THROUGH = "direct", "moontide"


@dataclass(frozen=True)
class Size:
    streams: int = 64
    tokens: int = 500
    rounds: int = 3
    """Of all streams at once."""
    requests: int = 100
    """One after the other, for the first token."""
    tokens_per_second: float = 50.0


@contextmanager
def pacer(tokens_per_second: float) -> Iterator[str]:
    """URL of an endpoint in a process of its own."""
    command = [sys.executable, "-m", "tests.measure.pacer", "--tokens-per-second", str(tokens_per_second)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment()
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def load(plan: Plan) -> list[Round]:
    """Raises CalledProcessError when an answer was not whole."""
    command = [sys.executable, "-m", "tests.measure.load", msgspec.json.encode(plan).decode()]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment(), check=True)
    return [Round(**json.loads(row)) for row in done.stdout.splitlines()]


def processor_seconds(stack: Stack) -> dict[str, float]:
    """User and system time since the start of each process."""
    tick = os.sysconf("SC_CLK_TCK")
    seconds = {}
    for name, needle in PROCESSES.items():
        fields = Path(f"/proc/{stack.pid(needle)}/stat").read_text().rpartition(")")[2].split()
        seconds[name] = (int(fields[11]) + int(fields[12])) / tick
    return seconds


def measure(size: Size) -> dict[str, Any]:
    load_average = os.getloadavg()[0]  # of others: on a machine that works for them too, the differences grow
    with (
        tempfile.TemporaryDirectory() as folder,
        pacer(size.tokens_per_second) as url,
        running(Path(folder), "--upstream", url) as stack,
    ):
        urls = {DIRECT: url, THROUGH: f"{stack.url}/v1"}
        alone = Plan(urls=urls, model="pacer", streams=1, tokens=2, rounds=size.requests + WARM_UP_ROUNDS)
        firsts = first_token(load(alone))
        many = Plan(urls=urls, model="pacer", streams=size.streams, tokens=size.tokens, rounds=size.rounds)
        before = processor_seconds(stack)
        rounds = load(many)
        after = processor_seconds(stack)
    tokens = sum(one.tokens for one in rounds if one.name == THROUGH)
    return {
        "first_token_p50_seconds": firsts,
        "first_token_p50_difference_seconds": round(firsts[THROUGH] - firsts[DIRECT], 6),
        "streams": size.streams,
        "tokens_per_stream": size.tokens,
        "paced_tokens_per_second": size.streams * size.tokens_per_second,
        "tokens_per_second": (rates := token_rates(rounds)),
        "rate_ratio": round(rates[THROUGH] / rates[DIRECT], 4),
        "first_token_p50_seconds_all_streams": first_token(rounds, warm_up=0),
        "processor_seconds_per_1000_tokens": {
            name: round(1000 * (after[name] - before[name]) / tokens, 4) for name in PROCESSES
        },
        "processors": os.cpu_count(),
        "load_average_before": round(load_average, 2),
    }


def first_token(rounds: list[Round], warm_up: int = WARM_UP_ROUNDS) -> dict[str, float]:
    """Median by way; the first rounds fill caches and are left out."""
    found: dict[str, float] = {}
    for name in (DIRECT, THROUGH):
        mine = [one.first_token_seconds for one in rounds if one.name == name][warm_up:]
        found[name] = round(statistics.median(seconds for one in mine for seconds in one), 6)
    return found


def token_rates(rounds: list[Round]) -> dict[str, float]:
    """All tokens by all seconds, by way."""
    found: dict[str, float] = {}
    for name in (DIRECT, THROUGH):
        mine = [one for one in rounds if one.name == name]
        found[name] = round(sum(one.tokens for one in mine) / sum(one.seconds for one in mine), 2)
    return found


def kept(result: dict[str, Any]) -> bool:
    """Whether the promised bounds hold."""
    return result["first_token_p50_difference_seconds"] < FIRST_TOKEN_SECONDS and result["rate_ratio"] >= RATE_RATIO


def main() -> int:
    defaults = Size()
    parser = argparse.ArgumentParser(prog="python -m tests.measure.overhead")
    parser.add_argument("--streams", type=int, default=defaults.streams)
    parser.add_argument("--tokens", type=int, default=defaults.tokens)
    parser.add_argument("--rounds", type=int, default=defaults.rounds)
    parser.add_argument("--requests", type=int, default=defaults.requests)
    result = measure(Size(**vars(parser.parse_args())))
    print(json.dumps(result, indent=2))
    return 0 if kept(result) else 1


if __name__ == "__main__":
    sys.exit(main())
