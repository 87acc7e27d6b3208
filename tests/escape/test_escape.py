"""The short version of ``make escape``."""

import pytest

from tests.escape.case import Case
from tests.escape.suite import CONTROL, cases, tried


async def test_a_harmless_program_works_either_way() -> None:
    assert (await tried(CONTROL)).ok


@pytest.mark.parametrize("case", cases(quick=True), ids=lambda case: f"{case.area}: {case.name}")
async def test_without_the_sandbox_it_succeeds_and_with_it_it_fails(case: Case) -> None:
    outcome = await tried(case)
    if outcome.left_out:
        pytest.skip(outcome.left_out)
    assert (outcome.without, outcome.within) == (True, False)
