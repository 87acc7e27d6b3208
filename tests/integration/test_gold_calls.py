"""Gold answers through the whole path: cases of our own in the benchmark's form. ``make gold-calls`` has them all."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.measure import gold_calls
from tests.measure.gold_calls import Case, cases, replay

LIGHT = {
    "name": "lamp.set",
    "description": "Sets a lamp.",
    "parameters": {
        "type": "dict",
        "properties": {
            "lamp": {"type": "string", "description": "Which one."},
            "level": {"type": "float", "description": "0 to 1."},
            "colours": {"type": "array", "items": {"type": "string"}, "enum": ["warm", "cold"]},
            "place": {"type": "dict", "properties": {"room": {"type": "string"}, "floor": {"type": "integer"}}},
        },
        "required": ["lamp"],
    },
}
CLOCK = {
    "name": "clock.now",
    "description": "Tells the time.",
    "parameters": {"type": "dict", "properties": {"zone": {"type": "any"}}, "required": []},
}
TRUTHS: list[list[dict[str, Any]]] = [
    [{"lamp.set": {"lamp": ["hall"], "level": [0.5, 0.50], "colours": [["warm", "cold"]], "place": [""]}}],
    [{"clock.now": {"zone": ["", "CET"]}}],
    [{"lamp.set": {"lamp": [f"lamp {number} „Flur“ {{}}"], "level": [""]}} for number in range(7)],
    [{"lamp.set": {"lamp": ["desk"], "place": [{"room": ["Küche", "kitchen"], "floor": [2]}]}}, {"clock.now": {}}],
    [{"lamp.set": {"lamp": [7]}}],
]


def write(folder: Path) -> Path:
    (folder / "possible_answer").mkdir(parents=True)
    for category, chosen in (("multiple", TRUTHS[:2]), ("parallel", TRUTHS[2:])):
        asked = [
            {
                "id": f"{category}_{n}",
                "question": [[{"role": "user", "content": f"do {n}"}]],
                "function": [LIGHT, CLOCK],
            }
            for n in range(len(chosen))
        ]
        answers = [{"id": f"{category}_{n}", "ground_truth": truth} for n, truth in enumerate(chosen)]
        for path, rows in ((folder, asked), (folder / "possible_answer", answers)):
            (path / f"BFCL_v4_{category}.json").write_text("\n".join(json.dumps(row) for row in rows))
    return folder


def read(folder: Path) -> list[Case]:
    return list(cases(write(folder), ("multiple", "parallel")))


def test_the_benchmarks_own_words_become_json_schema(tmp_path: Path) -> None:
    lamp, clock, many, both, wrong = read(tmp_path / "data")
    assert lamp.calls == (("lamp_set", {"lamp": "hall", "level": 0.5, "colours": ["warm", "cold"]}),)
    assert clock.calls == (("clock_now", {}),)
    assert [name for name, _ in both.calls] == ["lamp_set", "clock_now"]
    assert both.calls[0][1]["place"] == {"room": "Küche", "floor": 2}
    assert many.parallel
    assert [case.fits for case in (lamp, clock, many, both, wrong)] == [True, True, True, True, False]


@pytest.mark.timeout(60)
async def test_every_accepted_answer_reaches_the_client_as_it_is(tmp_path: Path) -> None:
    found = read(tmp_path / "data")
    result = await replay(found * 4, tmp_path / "stack")
    assert result["passed"] == result["replayed"] == 36, result["problems"]
    assert result["parallel"] == 8


@pytest.mark.timeout(60)
async def test_a_call_that_got_lost_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fewer(self: gold_calls.Gold, conversation: Any) -> Any:
        turn = whole(self, conversation)
        return type(turn)(turn.reasoning, turn.content, turn.calls[:1])

    whole = gold_calls.Gold.__call__
    monkeypatch.setattr(gold_calls.Gold, "__call__", fewer)
    result = await replay(read(tmp_path / "data"), tmp_path / "stack")
    assert result["replayed"] - result["passed"] == 4, "two cases with several calls, on both ways"
