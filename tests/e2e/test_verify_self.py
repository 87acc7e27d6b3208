"""`moontide verify` judges moontide itself, in both sampling modes (all of it: ``make verify-self``)."""

from pathlib import Path

import pytest

from tests.measure.verify_self import MODES, judged

TOPICS = ("models", "chat", "choice", "refusals", "errors", "usage", "finish")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("sampling", MODES)
def test_full_marks(sampling: str, tmp_path: Path) -> None:
    card = judged(tmp_path, sampling, [1], TOPICS)
    assert [check for check in card["checks"] if check["status"] != "passed"] == []
    assert card["score"]["passed"] >= 30
    assert card["exit_code"] == 0
