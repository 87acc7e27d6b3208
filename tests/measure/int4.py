"""``python -m tests.measure.int4``: INT4 experts against the same weights in bfloat16, on the K2-shaped model.

Two checkpoints from one seed, each in a process of its own, decode in turns; medians. Resident bytes are those of the
processes after their first answer, less those of one that has only imported the same libraries. Prints one JSON object;
exit code 1 when INT4 takes more than 0.6 of the bytes or decodes less than 1.5 times as fast.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from services.inference.bench.contest import Player
from services.inference.bench.runner import Request
from services.inference.bench.works import WORKS
from shared.model import presets
from shared.model.initialise import initialise

FORMS: tuple[presets.Experts, ...] = ("int4", "bf16")
MOST_BYTES, LEAST_SPEED = 0.6, 1.5
BARE = (
    "import services.inference.bench.moontide_contender; from services.inference.bench.runner import resident_bytes;"
    "print(resident_bytes())"
)


def measure(folder: Path, threads: int, turns: int) -> dict[str, Any]:
    with ExitStack() as stack:
        players = {form: stack.enter_context(Player("moontide", made(folder, form), threads)) for form in FORMS}
        bare = int(subprocess.run([sys.executable, "-c", BARE], stdout=subprocess.PIPE, check=True).stdout)
        resident = {form: player.ask(Request()).resident_bytes - bare for form, player in players.items()}
        works = [work for work in WORKS if work.kind == "decode"]
        rates: dict[str, dict[str, list[float]]] = {work.name: {form: [] for form in FORMS} for work in works}
        for turn in range(turns + 1):
            for work in works:
                for form, player in players.items():
                    rate = work.rows * work.repeats / player.ask(Request(work)).seconds
                    say(f"turn {turn} of {turns}  {work.name}  {form}  {rate:.1f} {work.unit}")
                    if turn:  # the first round only warms up
                        rates[work.name][form].append(rate)
    return report(resident, rates) | {"threads": threads, "turns": turns}


def report(resident: dict[presets.Experts, int], rates: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    speeds = {name: {form: statistics.median(row[form]) for form in FORMS} for name, row in rates.items()}
    return {
        "resident_bytes": resident,
        "resident_ratio": round(resident["int4"] / resident["bf16"], 3),
        "tokens_per_second": {
            name: {form: round(rate, 2) for form, rate in row.items()} for name, row in speeds.items()
        },
        "speed_ratio": {name: round(row["int4"] / row["bf16"], 3) for name, row in speeds.items()},
    }


def made(folder: Path, form: presets.Experts) -> Path:
    directory = folder / form
    if not directory.exists():
        say(f"writing a random K2-shaped checkpoint with {form} experts")
        ranks = presets.BENCH_TEXT["vocab_size"] - presets.SPECIALS
        initialise(directory, presets.document("bench", ranks, form), 0, tokenizer_config=None)
    return directory


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.int4")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where the two checkpoints are kept; default: nowhere"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--turns", type=int, default=5)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moontide-int4-") as name:
        result = measure(parsed.folder or Path(name), parsed.threads, parsed.turns)
    print(json.dumps(result))
    return 0 if result["resident_ratio"] <= MOST_BYTES and min(result["speed_ratio"].values()) >= LEAST_SPEED else 1


if __name__ == "__main__":
    sys.exit(main())
