"""The judgement of storms: a kept promise has no faults, and each broken one is named."""

from typing import Any

import pytest

from schemas.blobs import BlobRef
from schemas.chat import Usage
from schemas.request import RequestContext
from schemas.runs import (
    LeaseTaken,
    LedgerEntry,
    ModelAnswered,
    ModelAsked,
    RunAccepted,
    RunEnded,
    RunEvent,
    RunSpec,
    ToolAnswered,
    ToolAsked,
)
from tests.chaos.verdict import Record, Stored, judge, percentile, takeover_seconds

RUN = "run-a"
CALL = "run-a-1-0"
REF = BlobRef(key="sha256/x", size_bytes=1)
ANSWER = ModelAnswered(
    step=1, message=REF, usage=Usage(prompt_tokens=1, completion_tokens=1), finish_reason="stop", tool_calls=1
)
SPEC = RunSpec(model="m", messages=(REF,))
ACCEPTED = RunAccepted(context=RequestContext(request_id=RUN, deadline_unix_seconds=1e9), spec=SPEC)
TOOL = ToolAsked(step=1, call_id=CALL, tool_call_id="c", tool="harbour_note", arguments=REF)


def record(*moments: tuple[float, int, tuple[RunEvent, ...]]) -> Record:
    entries = [
        Stored(
            place,
            time,
            LedgerEntry(
                entry_id=str(place), run_id=RUN, owner=f"o{term}", term=term, time_unix_seconds=time, events=events
            ),
        )
        for place, (time, term, events) in enumerate(moments, 1)
    ]
    return Record(RUN, "m1", entries)


def whole(**changed: tuple[float, int, tuple[RunEvent, ...]]) -> Record:
    """A run that was taken over once; ``changed``: other moments in place of these."""
    moments: dict[str, tuple[float, int, tuple[RunEvent, ...]]] = {
        "accepted": (1.0, 0, (ACCEPTED,)),
        "asked": (2.0, 1, (LeaseTaken(owner="o1", term=1), ModelAsked(step=1, message_count=1))),
        "taken": (5.0, 2, (LeaseTaken(owner="o2", term=2),)),
        "answered": (6.0, 2, (ANSWER, TOOL)),
        "tool": (8.0, 2, (ToolAnswered(step=1, call_id=CALL, message=REF),)),
        "ended": (9.0, 2, (RunEnded(outcome="finished"),)),
    }
    return record(*(moments | changed).values())


def asked(time: float, step: int = 1) -> dict[str, Any]:
    return {"time": time, "what": "asked", "run": "m1", "step": step}


def effect(time: float, *, keyed: bool = True, happened: bool = True, key: str = CALL) -> dict[str, Any]:
    return {"time": time, "tool": "note", "text": "t", "key": key, "keyed": keyed, "happened": happened}


def test_a_kept_promise_has_no_faults() -> None:
    effects = [effect(7.0), effect(7.5, happened=False)]
    assert judge([whole()], [asked(2.1), asked(5.5)], effects).total() == 0


@pytest.mark.parametrize(
    ("kind", "run", "model", "effects"),
    [
        ("calls_repaid", whole(), [asked(6.5)], []),
        ("intent", whole(), [asked(1.5)], []),
        ("intent", whole(), [asked(2.5, step=2)], []),
        ("intent", whole(), [], [effect(5.9)]),
        ("effects_repeated", whole(), [], [effect(7.0), effect(7.5)]),
        ("effects_unreported", whole(), [], [effect(7.0, keyed=False), effect(7.5, keyed=False)]),
        ("effects_unexplained", whole(), [], [effect(7.0, key="run-b-1-0")]),
        ("terminal", whole(ended=(9.0, 2, (ANSWER,))), [], []),
        ("terminal", whole(tool=(8.0, 2, (RunEnded(outcome="failed"),))), [], []),
        ("fencing", whole(answered=(6.0, 1, (ANSWER, TOOL))), [], []),
        ("fencing", whole(tool=(8.0, 2, (ANSWER,))), [], []),
    ],
)
def test_each_broken_promise_is_named(
    kind: str, run: Record, model: list[dict[str, Any]], effects: list[dict[str, Any]]
) -> None:
    assert judge([run], model, effects).count(kind) >= 1


def test_a_repeated_effect_that_is_reported_is_none() -> None:
    reported = whole(tool=(8.0, 2, (ToolAnswered(step=1, call_id=CALL, message=REF, possibly_repeated=True),)))
    assert judge([reported], [], [effect(7.0, keyed=False), effect(7.5, keyed=False)]).total() == 0


def test_takeovers_are_counted_from_a_death_to_the_next_lease() -> None:
    assert takeover_seconds([whole()], [(3.0, "o1")]) == [2.0]
    assert takeover_seconds([whole()], [(3.0, "o2"), (5.5, "o2")]) == []
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert percentile([], 0.99) == 0.0
