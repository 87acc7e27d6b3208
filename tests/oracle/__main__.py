"""``python -m tests.oracle``: every comparison over two dozen configurations, as a table. Exit code 1 if one fails."""

import sys
from collections.abc import Iterator

import torch

from tests.oracle import comparisons
from tests.oracle.comparisons import LAST, LENGTH, Row

SEEDS = range(24)
COLUMNS = (*range(1, 70), 96, 100, 896, 2048, 7168)


def rows() -> Iterator[Row]:
    yield comparisons.text_logits(SEEDS)
    yield comparisons.text_logits(SEEDS, first=LAST - LENGTH)
    yield comparisons.ways_of_feeding(SEEDS)
    yield comparisons.vision_rows(SEEDS)
    yield comparisons.image_logits(SEEDS)
    yield comparisons.kimi_vl_rows(SEEDS)
    yield comparisons.kimi_vl_logits(SEEDS)
    yield comparisons.bfloat16_choice(SEEDS)
    yield comparisons.int4(COLUMNS)


def main() -> int:
    torch.set_num_threads(2)
    good = True
    print(f"{'what':<55} {'configurations':>14} {'largest':>10} {'limit':>8}")
    for row in rows():
        good &= row.good
        print(f"{row.what:<55} {row.configurations:>14} {row.largest:>10.2e} {row.limit:>8.0e}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
