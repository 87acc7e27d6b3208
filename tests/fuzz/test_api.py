"""The short version of ``make fuzz-api``, and that it would find what it is there to find."""

import pytest

from tests.fuzz.api import DEFECTS, fuzz

CASES = 1_500

# What aiohttp says of forms that are cut short.
pytestmark = pytest.mark.filterwarnings(
    "ignore::aiohttp.BadContentDispositionHeader", "ignore::aiohttp.BadContentDispositionParam"
)


async def test_no_failure_and_no_hang() -> None:
    report = await fuzz(seed=1, cases=CASES)
    assert report.failures == []
    assert report.cases == CASES
    assert report.statuses[200] > CASES / 10
    assert report.statuses[400] > CASES / 10


async def test_the_same_seed_asks_the_same() -> None:
    first, second = [await fuzz(seed=2, cases=100, at_once=1) for _ in range(2)]
    assert (first.statuses, first.codes) == (second.statuses, second.codes)


@pytest.mark.parametrize("defect", sorted(DEFECTS))
async def test_a_planted_defect_is_found(defect: str) -> None:
    report = await fuzz(seed=3, cases=300, defect=defect, hang=0.5)
    assert report.failures
