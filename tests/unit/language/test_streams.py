"""Streams of generated answers are the whole messages, however they are cut and mixed; built-in faults are found."""

import pytest

from tests.fuzz.language import BREAKS, DATA, run


def test_ten_thousand_streams() -> None:
    assert run(8_000, 1, "", released=False).mismatches == []


def test_streams_in_the_released_vocabulary() -> None:
    if not DATA.is_dir():
        pytest.skip(f"the released vocabulary is not in {DATA} (see MOONTIDE_TEST_DATA_DIR)")
    assert run(2_000, 2, "", released=True).mismatches == []


@pytest.mark.parametrize("sabotage", BREAKS)
def test_a_fault_is_found(sabotage: str) -> None:
    assert run(1_000, 3, sabotage, released=False).mismatches
