"""`moontide verify` against a perfect endpoint, and against ones with exactly one planted defect."""

import time

import pytest

from services.cli.verify.command import judge
from services.cli.verify.key import Key
from services.cli.verify.probe import Target
from services.cli.verify.scorecard import Scorecard
from services.cli.verify.table import CHECKS, Check
from tests.endpoints.perfect import DEFECTS, KEY, MODEL, PerfectEndpoint, serving_perfect

LEVELS = {"loses_words_under_load": (1, 8, 64)}
"""Concurrency that a defect needs; the others show at any."""


async def verified(
    endpoint: PerfectEndpoint, checks: tuple[Check, ...] = CHECKS, *, at: tuple[int, ...] = (1, 4), strict: bool = False
) -> Scorecard:
    return await judge(Target(endpoint.url, MODEL, Key(KEY), at), checks, strict=strict)


async def test_a_perfect_endpoint_gets_full_marks() -> None:
    began = time.monotonic()
    async with serving_perfect() as endpoint:
        card = await verified(endpoint, at=(1, 8, 64), strict=True)
    assert [(outcome.name, outcome.reason) for outcome in card.failed] == []
    assert card.count("passed") == len(CHECKS)
    assert card.exit_code == 0
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("defect", DEFECTS)
async def test_a_planted_defect_is_named_by_its_check_and_by_no_other(defect: str) -> None:
    guilty = tuple(check for check in CHECKS if check.name == DEFECTS[defect])
    innocent = tuple(check for check in CHECKS if check.name != DEFECTS[defect])
    assert len(guilty) == 1
    async with serving_perfect(defect) as endpoint:
        named = await verified(endpoint, guilty, at=LEVELS.get(defect, (1, 4)))
        without = await verified(endpoint, innocent, at=LEVELS.get(defect, (1, 4)))
    assert [outcome.status for outcome in named.outcomes] == ["failed"]
    assert named.exit_code == 1
    assert named.failed[0].reason
    assert named.failed[0].curl.startswith(("curl ", "for i in "))
    assert [(outcome.name, outcome.reason) for outcome in without.failed] == []
    assert without.exit_code == 0, "without its check, the defect goes unseen"
