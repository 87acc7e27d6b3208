"""``bench serve`` and the soak, shortened: figures add up, promises hold, a planted leak is seen."""

import argparse
import json
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from services.inference.bench import command, serve, serve_shares
from services.inference.bench.serve_report import ServeReport, table, times
from services.inference.bench.serve_traffic import sessions
from tests.measure import soak


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ServeReport:
    arguments = argparse.Namespace(
        checkpoint=serve.tiny(tmp_path_factory.mktemp("bench") / "tiny", 1),
        seconds=4.0,
        sessions_per_second=4.0,
        pages=200,
        agents=40,
        forwards=600,
        seed=1,
    )
    return serve.measure(arguments, lambda line: None)


def test_the_short_run_keeps_what_is_promised(report: ServeReport) -> None:
    assert report.load.calls > 5
    assert report.load.media > 0
    assert report.load.prefix_hits > 0
    assert 0 < report.load.first_token_seconds.p50 <= report.load.first_token_seconds.p99
    assert 0 < report.load.time_per_token_seconds.p50 <= report.load.time_per_token_seconds.p99
    assert report.memory.page_bytes == report.memory.page_bytes_by_formula
    assert report.memory.sequences_off_formula == 0
    assert report.memory.pages_lost == 0
    assert 0 < report.memory.peak_running_pages <= report.memory.cache_pages
    assert report.fairness.largest_deviation <= 0.1
    assert all(row.forwards_to_first_token <= row.bound_forwards for row in report.flood)


def test_the_report_reads_as_json_and_as_a_table(report: ServeReport) -> None:
    assert json.loads(msgspec.json.encode(report))["load"]["calls"] == report.load.calls
    shown = table(report)
    assert "plain LRU" in shown
    assert "p99" in shown
    assert max(len(line) for line in shown.splitlines()) < 140


def test_sessions_depend_on_the_seed_only() -> None:
    first, again, other = (list(islice(sessions(seed, 2.0, 512), 200)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first[-1].arrives_seconds == pytest.approx(100, rel=0.3)
    assert {session.kind for session in first} == {"agent", "chat", "picture"}
    assert any(call.announced_seconds > 0 for session in first for call in session.calls)
    assert all(session.calls[-1].pause_seconds == 0 for session in first)


def test_shares_and_floods_are_the_same_each_time() -> None:
    assert serve_shares.shares(3, 200) == serve_shares.shares(3, 200)


def test_quantiles_of_few() -> None:
    assert times([]).p50 == 0
    assert times([2.0]).p99 == 2
    assert times([1.0, 2.0, 3.0]).p50 == 2


@pytest.mark.parametrize("wrong", [["--seconds", "0"], ["--pages", "-1"], ["--agents", "0"]])
def test_bad_arguments_are_named(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["serve", *wrong]) == 2
    assert wrong[0] in capsys.readouterr().err


def test_what_is_no_checkpoint_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["serve", "--checkpoint", str(tmp_path), "--seconds", "1"]) == 1
    assert capsys.readouterr().err


def test_a_short_soak_is_flat_and_a_leak_is_seen() -> None:
    """``make soak``, in seconds instead of minutes."""
    leaking = soak.run(minutes=0.06, seed=3, sessions_per_second=8.0, broken="leak")
    assert not leaking["flat"], leaking
    steady = soak.run(minutes=0.06, seed=3, sessions_per_second=8.0)
    assert steady["flat"], steady
    assert steady["calls"] > 10
