"""``bench engine`` on a tiny model: the report has the form that is promised, and a peer computes the same network."""

import json
from pathlib import Path

import pytest

from services.inference.bench.command import main
from services.inference.bench.contest import Player, cosine, summary
from services.inference.bench.runner import Request
from services.inference.bench.works import WORKS
from shared.model import presets
from shared.model.initialise import initialise

UNITS = {
    "decode_batch_1": "tokens/s",
    "decode_batch_16": "tokens/s",
    "prefill_512": "tokens/s",
    "expert_kernel_1_row": "rows/s",
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench") / "tiny"
    initialise(out, presets.document("tiny", 512), seed=1, tokenizer_config=None)
    return out


def test_the_report_names_every_work_and_the_machine(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engine", "--json", "--turns", "1", "--threads", "1", "--checkpoint", str(directory)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["machine"]["threads"] == 1
    assert report["machine"]["memory_bandwidth_bytes_per_second"] > 1e8
    assert {row["work"]: row["unit"] for row in report["rows"]} == UNITS
    for row in report["rows"]:
        assert row["moontide"] > 0
        assert row["fraction_of_limit"] > 0
        assert row["peers"] == row["ratio"] == {}


def test_a_ratio_is_ours_by_theirs_at_the_medians() -> None:
    samples = {"moontide": [30.0, 10.0, 20.0], "llama.cpp": [8.0, 10.0, 90.0]}
    row = summary(WORKS[0], samples, bytes_per_unit=5.0, bandwidth_bytes_per_second=400.0)
    assert (row.moontide, row.peers, row.ratio) == (20.0, {"llama.cpp": 10.0}, {"llama.cpp": 2.0})
    assert row.fraction_of_limit == pytest.approx(0.25)


def test_transformers_is_measured_on_the_same_network(directory: Path) -> None:
    with Player("moontide", directory, 1) as ours, Player("transformers", directory, 1) as theirs:
        answers = [player.ask(Request()) for player in (ours, theirs)]
    assert cosine(answers[0].logits, answers[1].logits) > 0.999
    assert all(answer.resident_bytes > 0 for answer in answers)
