"""The folder that the embedded index searches: a few documents, two of which answer the mission's questions."""

import random
from pathlib import Path

WORDS = ("sluice", "gauge", "anchor", "buoy", "mole", "lock", "current", "brackish", "sediment", "pontoon", "dredge")


def datum(seed: int) -> str:
    return f"{1 + seed % 7}.{200 + seed % 500}"


def channel(seed: int) -> int:
    return 10 + seed % 60


def write(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    for number in range(20):
        words = " ".join(chance.choices(WORDS, k=60))
        (folder / f"chronicle-{number}.md").write_text(f"# Chronicle {number}\n\n{words}.\n")
    gauge = f"# The pier gauge\n\nThe tide datum of the pier gauge lies {datum(seed)} metres below the mole.\n"
    (folder / "gauge.md").write_text(gauge)
    master = f"# Harbour master\n\nThe harbour master of the pier listens on channel {channel(seed)}.\n"
    (folder / "master.md").write_text(master)
