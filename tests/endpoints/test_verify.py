"""`moontide verify` against a perfect endpoint, and against ones with exactly one planted defect."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.cli.verify.command import judge
from services.cli.verify.key import Key
from services.cli.verify.probe import Target
from services.cli.verify.scorecard import Scorecard
from services.cli.verify.table import CHECKS, Check
from tests.endpoints.perfect import DEFECTS, KEY, MODEL, PerfectEndpoint, serving_perfect

ROOT = Path(__file__).parents[2]
REPORTED = "latency.tokens"
"""Judges nothing: its figures are."""
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
    (latency,) = [outcome for outcome in card.outcomes if outcome.name == REPORTED]
    assert {int(level) for level in latency.measured} == {1, 8, 64}
    assert time.monotonic() - began < 60


def test_no_check_can_go_unnoticed() -> None:
    """Each has a defect that it alone names (below), or is looked at above."""
    assert {check.name for check in CHECKS} == {*DEFECTS.values(), REPORTED}


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


async def test_a_model_that_says_that_it_is_noise_need_not_call_by_itself() -> None:
    auto = tuple(check for check in CHECKS if check.name == "choice.auto")
    async with serving_perfect("never_calls_by_itself", random_weights=True) as endpoint:
        card = await verified(endpoint, auto, strict=True)
    assert [(outcome.status, outcome.measured) for outcome in card.outcomes] == [
        ("passed", {"judged": "form only, the weights are random"})
    ]


@pytest.mark.parametrize(
    ("refused", "names"),
    [
        ("tools", {"tools", "choice", "finish.tool_calls"}),
        ("response_format", {"format"}),
        ("images", {"media.image"}),
        ("video", {"media.video"}),
    ],
)
async def test_what_is_openly_refused_is_not_offered_and_a_defect_only_when_strict(
    refused: str, names: set[str]
) -> None:
    async with serving_perfect(refuses=frozenset({refused})) as endpoint:
        card = await verified(endpoint)
        strict = await verified(endpoint, tuple(check for check in CHECKS if check.name in names), strict=True)
    silent = {outcome.name for outcome in card.outcomes if outcome.status == "not_offered"}
    assert silent == {check.name for check in CHECKS if {check.name, check.name.partition(".")[0]} & names}
    assert card.exit_code == 0
    assert all(outcome.status == "failed" for outcome in strict.outcomes)


async def test_where_answers_do_not_repeat_streams_are_not_blamed() -> None:
    async with serving_perfect("rolls_dice") as endpoint:
        card = await verified(endpoint, tuple(check for check in CHECKS if check.name == "streams.equal"))
    assert [(outcome.status, outcome.reason) for outcome in card.outcomes] == [
        ("not_offered", "5 answers are not repeatable, so streams cannot be compared")
    ]


async def test_the_commands_repeat_the_defect_and_the_key_is_nowhere(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    async with serving_perfect("ignores_patterns") as endpoint:
        ending = await asyncio.to_thread(
            moontide, "verify", endpoint.url, "--key-file", str(tmp_path / "key"), "--only", "tools.schemas", "--json"
        )
        report = json.loads(ending.stdout)
        command = report["checks"][0]["curl"].splitlines()[0]
        told = await asyncio.to_thread(shell, command, {"MOONTIDE_VERIFY_KEY": KEY})
    assert ending.returncode == 1
    assert KEY not in ending.stdout + ending.stderr
    assert '"Authorization: Bearer $MOONTIDE_VERIFY_KEY"' in command
    assert report["score"] == {"passed": 0, "failed": 1, "not_offered": 0}
    assert set(report["checks"][0]) == {"name", "status", "reason", "curl", "measured"}
    assert "ab_123" in report["checks"][0]["reason"]
    assert "HTTP/1.1 200 OK" in told
    assert "ab_123" in told, "the command shows the defect"


async def test_an_endpoint_that_echoes_the_key_does_not_get_it_shown() -> None:
    async with serving_perfect() as endpoint:
        wrong = "sk-other-0123456789abcdef"
        card = await judge(Target(endpoint.url, MODEL, Key(wrong), (1,)), CHECKS)
    assert card.failed
    assert wrong not in json.dumps(card.to_json())
    assert "[key]" in json.dumps(card.to_json())


async def test_the_text_names_the_defect_with_its_command() -> None:
    async with serving_perfect("wrong_total") as endpoint:
        command = ("verify", endpoint.url, "--extra", "{}", "--only", "usage", "models", "--concurrency", "1")
        ending = await asyncio.to_thread(moontide, *command)
    assert ending.returncode == 1, "without the key everything is refused"
    assert "HTTP 401" in ending.stdout
    assert f"curl -sS -N -i -X POST {endpoint.url}/chat/completions" in ending.stdout
    assert "1 passed, 3 failed, 0 not offered" in ending.stdout


def moontide(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "services.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def shell(command: str, environment: dict[str, str]) -> str:
    """What a POSIX shell prints; skipped where there is no curl."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl")
    return subprocess.run(
        ["/bin/sh", "-c", command],
        env={**environment, "PATH": str(Path(curl).parent)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    ).stdout
