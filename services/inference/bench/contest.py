"""The contest: contenders in turns, memory measured between them; then medians and ratios.

Input: running contenders. Output: ``Report``. ``summary`` is pure; ``Player`` is the process of one contender.
"""

import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from services.inference.bench.machine import MemoryProbe
from services.inference.bench.runner import Answer, Request
from services.inference.bench.works import Work, WorkName
from shared.errors import Unavailable

OURS = "moontide"


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    memory_bandwidth_bytes_per_second: float
    """Median of the measurements between the turns."""
    threads: int
    cpu: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    work: WorkName
    moontide: float
    unit: str
    peers: dict[str, float]
    ratio: dict[str, float]
    """Moontide's rate divided by the peer's: above 1 is faster than the peer."""
    fraction_of_limit: float
    """Bytes of weights that must be read per second at this rate, of the measured bandwidth."""
    samples: dict[str, list[float]]


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a peer has the same weights: cosine of its logits with moontide's after the same prompt."""

    peer: str
    logits_cosine: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    machine: Machine
    rows: list[Row]
    checks: list[Check]
    resident_bytes: dict[str, int]


class Player:
    """A contender's process. Use as a context manager."""

    def __init__(self, name: str, directory: Path, threads: int) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.inference.bench.runner", name, str(directory), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> "Player":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, request: Request) -> Answer:
        """Raises Unavailable when the process has ended; what it said is on standard error."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(msgspec.json.encode(request) + b"\n")
            stdin.flush()
        except BrokenPipeError:
            line = b""
        else:
            line = stdout.readline()
        if not line:
            raise Unavailable("bench.contender_died", f"{self.name} ended without an answer", retry_after_seconds=0.0)
        return msgspec.json.decode(line, type=Answer)


def play(
    players: Sequence[Player],
    works: Sequence[Work],
    turns: int,
    probe: MemoryProbe,
    progress: Callable[[str], None],
) -> tuple[dict[WorkName, dict[str, list[float]]], list[float]]:
    """Rates per work and player, one per turn, and the bandwidths between. The first round only warms up."""
    rates: dict[WorkName, dict[str, list[float]]] = {
        work.name: {player.name: [] for player in players} for work in works
    }
    bandwidths: list[float] = []
    for turn in range(turns + 1):
        for work in works:
            bandwidths.append(probe.bytes_per_second())
            for player in players:
                rate = work.rows * repeats(work) / player.ask(Request(work)).seconds
                progress(f"turn {turn} of {turns}  {work.name:<20} {player.name:<13} {rate:12,.1f} {work.unit}")
                if turn:
                    rates[work.name][player.name].append(rate)
    return rates, bandwidths


def repeats(work: Work) -> int:
    return 1 if work.kind == "prefill" else work.repeats


def summary(
    work: Work, samples: dict[str, list[float]], bytes_per_unit: float, bandwidth_bytes_per_second: float
) -> Row:
    medians = {name: statistics.median(values) for name, values in samples.items()}
    ours = medians.pop(OURS)
    return Row(
        work=work.name,
        moontide=ours,
        unit=work.unit,
        peers=medians,
        ratio={name: ours / rate for name, rate in medians.items()},
        fraction_of_limit=ours * bytes_per_unit / bandwidth_bytes_per_second,
        samples=samples,
    )


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return _dot(one, other) / math.sqrt(_dot(one, one) * _dot(other, other))


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(x * y for x, y in zip(one, other, strict=True))
