"""Replay: the same entries give the same state wherever they are cut, and what cannot come changes nothing."""

import copy
import random
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.chat import Usage
from schemas.failure import Failure
from schemas.runs import (
    ContextReduced,
    LeaseTaken,
    MessageAdded,
    ModelAnswered,
    ModelAsked,
    ModelFailed,
    NumberedEntry,
    RunAccepted,
    RunEnded,
    RunEvent,
    RunPaused,
    RunResumed,
    RunWaiting,
    ToolAnswered,
    ToolAsked,
    ToolDecided,
)
from shared.ledger.audit import run_findings
from shared.ledger.machine import IllegalTransition
from shared.ledger.state import RunState, replay

from .history import RUN, History, accepted, answer, call_id, ref, result, tool

FAILURE = Failure(code="upstream.quota", message="no more today", status=429)
USAGE = Usage(prompt_tokens=5, completion_tokens=1)
EMPTY = History()
UNLIKELY = (LeaseTaken, RunEnded, RunPaused, RunWaiting)


def candidates(state: RunState, number: int) -> list[RunEvent]:
    """One of each kind that might come next, legal or not."""
    place, step = state.place, state.step
    index = len(place.calls)
    open_call = place.calls[number % index] if index else None
    found: list[RunEvent] = [
        LeaseTaken(owner=f"owner-{place.term + 1}", term=place.term + 1),
        ModelAsked(step=step + 1, message_count=1),
        ModelAsked(step=step, attempt=place.attempt + 1, message_count=1),
        ModelAsked(step=step, message_count=1, purpose="summary"),
        answer(step, number % 3),
        ModelFailed(step=step, attempt=place.attempt, failure=FAILURE),
        tool(step, index, needs_approval=number % 4 == 0),
        MessageAdded(message=ref(f"said-{number}"), command_id=f"c{number}" if number % 2 else ""),
        ContextReduced(strategy="hide_tool_results", through_step=max(0, step - 1)),
        ContextReduced(strategy="summary", through_step=step, summary=ref(f"summary-{number}"), usage=USAGE),
        RunWaiting(failure=FAILURE),
        RunPaused(command_id=f"p{number}"),
        RunResumed(command_id=f"r{number}"),
        RunEnded(outcome="finished", answer=ref("end")),
    ]
    if open_call is not None:
        found.append(ToolDecided(call_id=open_call.call_id, approved=number % 3 > 0, command_id=f"d{number}"))
        failure = FAILURE if number % 5 == 0 else None
        workspace = ref(f"tree-{number}") if number % 2 else None
        found.append(result(step, number % index, failure=failure, workspace=workspace))
    return found


def history_of(seed: int, length: int) -> list[NumberedEntry]:
    """A random legal one, of entries with one event or several."""
    rng = random.Random(seed)
    history = History()
    state = replay(history.entries)
    while len(history.entries) <= length and not state.ended:
        legal = [event for event in candidates(state, rng.randrange(1000)) if fits(state, event)]
        likely = [event for event in legal if not isinstance(event, UNLIKELY)]
        numbered = numbered_after(state, rng.choice(likely if likely and rng.random() < 0.9 else legal))
        state.apply(numbered)
        history.entries.append(numbered)
    return joined(rng, history.entries)


def joined(rng: random.Random, entries: list[NumberedEntry]) -> list[NumberedEntry]:
    """Some neighbours of one owner as one entry."""
    found = entries[:1]
    for numbered in entries[1:]:
        last = found[-1]
        if last.entry.term == numbered.entry.term and len(found) > 1 and rng.random() < 0.4:
            entry = replace(last.entry, events=last.entry.events + numbered.entry.events)
            found[-1] = replace(numbered, entry=entry)
        else:
            found.append(numbered)
    return found


def numbered_after(state: RunState, event: RunEvent) -> NumberedEntry:
    term = event.term if isinstance(event, LeaseTaken) else state.place.term
    entry = EMPTY.entry(event, term=term).entry
    return NumberedEntry(sequence=state.last_sequence + 1, entry=entry)


def fits(state: RunState, event: RunEvent) -> bool:
    try:
        state.check(numbered_after(state, event).entry)
    except IllegalTransition:
        return False
    return True


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.integers(1, 60), st.floats(0, 1))
def test_a_prefix_and_the_rest_are_the_whole(seed: int, length: int, cut: float) -> None:
    entries = history_of(seed, length)
    place = 1 + int(cut * (len(entries) - 1))
    state = replay(entries[:place])
    for numbered in entries[place:]:
        state.apply(numbered)
    assert state == replay(entries)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.integers(1, 60))
def test_the_audit_finds_nothing_in_what_the_state_machine_allows(seed: int, length: int) -> None:
    assert run_findings(RUN, history_of(seed, length)) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_what_cannot_come_changes_nothing(seed: int, length: int) -> None:
    state = replay(history_of(seed, length))
    before = copy.deepcopy(state)
    for event in candidates(state, seed):
        if not fits(state, event):
            with pytest.raises(IllegalTransition):
                state.apply(numbered_after(state, event))
    assert state == before


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.integers(1, 60))
def test_every_result_follows_its_answer_in_the_models_order(seed: int, length: int) -> None:
    """Whatever came when: the conversation is a dialogue that a model accepts."""
    state = replay(history_of(seed, length))
    turns = state.conversation.turns
    asked = {turn.step: [] for turn in turns if turn.kind == "assistant"}
    for before, turn in pairwise(turns):
        if turn.kind == "tool":
            assert before.step == turn.step
            assert before.kind in ("assistant", "tool")
            asked[turn.step].append(int(turn.message.key.rsplit("-", 1)[-1]))
    assert all(indexes == sorted(indexes) for indexes in asked.values())


def kinds(state: RunState) -> list[str]:
    return [turn.message.key.removeprefix("sha256/") for turn in state.conversation.shown()]


def test_what_is_said_meanwhile_follows_the_step() -> None:
    history = History().take().add(ModelAsked(step=1, message_count=1))
    history.add(MessageAdded(message=ref("early")))
    history.add(answer(1, 2), tool(1, 0), tool(1, 1))
    history.add(result(1, 1)).add(MessageAdded(message=ref("late"))).add(result(1, 0))
    history.add(MessageAdded(message=ref("after")))
    state = replay(history.entries)
    assert kinds(state) == ["goal", "answer-1", "result-1-0", "result-1-1", "early", "late", "after"]


def test_a_new_owner_asks_again_with_what_was_said_meanwhile() -> None:
    history = History().take().add(ModelAsked(step=1, message_count=1)).add(MessageAdded(message=ref("said")))
    assert kinds(replay(history.entries)) == ["goal"]
    history.take().add(ModelAsked(step=1, attempt=2, message_count=2))
    assert kinds(replay(history.entries)) == ["goal", "said"]


def test_reductions_show_less_and_keep_all() -> None:
    history = History().take()
    for step in (1, 2, 3):
        history.step(step)
    history.add(MessageAdded(message=ref("said")))
    history.add(ContextReduced(strategy="hide_tool_results", through_step=2))
    state = replay(history.entries)
    assert [turn.hidden for turn in state.conversation.shown()] == [
        False,
        False,
        True,
        False,
        True,
        False,
        False,
        False,
    ]
    history.add(ModelAsked(step=3, message_count=8, purpose="summary"))
    history.add(ContextReduced(strategy="summary", through_step=3, summary=ref("short"), usage=USAGE))
    state = replay(history.entries)
    assert kinds(state) == ["goal", "short", "said"]
    assert state.usage.prompt_tokens == 305
    history.step(4).add(ContextReduced(strategy="discard_all", through_step=4))
    state = replay(history.entries)
    assert kinds(state) == ["goal", "said"]
    assert len(state.conversation.turns) == 10


def test_summary_says_what_people_see() -> None:
    history = History().take().add(ModelAsked(step=1, message_count=1))
    history.add(answer(1, 1), tool(1, 0, needs_approval=True), RunWaiting(failure=FAILURE))
    summary = replay(history.entries).summary()
    assert (summary.status, summary.waiting, summary.step, summary.term) == ("waiting", FAILURE, 1, 1)
    assert [(pending.call_id, pending.tool) for pending in summary.approvals] == [(call_id(1, 0), "python")]
    assert (summary.trace_id, summary.cost_usd) == ("0af7651916cd43dd8448eb211c80319c", 0.5)
    history.add(ToolDecided(call_id=call_id(1, 0), approved=True, command_id="c"), RunResumed(command_id="c"))
    history.add(result(1, 0)).add(RunEnded(outcome="failed", failure=FAILURE))
    state = replay(history.entries)
    assert (state.summary().status, state.summary().failure, state.summary().approvals) == ("failed", FAILURE, ())
    assert state.taken_commands == {"c"}


def test_owners_under_whom_nothing_comes_of_it_are_counted() -> None:
    history = History().take().step(1)
    assert replay(history.entries).fruitless_terms == 0
    history.take().take().add(ModelAsked(step=2, message_count=3)).take()
    assert replay(history.entries).fruitless_terms == 3
    history.add(ModelAsked(step=2, attempt=2, message_count=3)).add(answer(2))
    assert replay(history.entries).fruitless_terms == 0


REFUSED: dict[str, tuple[History, RunEvent]] = {
    "after the end": (History().take().add(RunEnded(outcome="finished")), RunPaused()),
    "a second acceptance": (History().take(), accepted().events[0]),
    "a term that is skipped": (History().take(), LeaseTaken(owner="owner-1", term=3)),
    "an answer that was not asked for": (History().take(), answer(1)),
    "asked twice at once": (
        History().take().add(ModelAsked(step=1, message_count=1)),
        ModelAsked(step=1, attempt=2, message_count=1),
    ),
    "the next step with calls open": (
        History().take().add(ModelAsked(step=1, message_count=1)).add(answer(1, 1), tool(1, 0)),
        ModelAsked(step=2, message_count=1),
    ),
    "more calls than the model made": (
        History().take().add(ModelAsked(step=1, message_count=1)).add(answer(1, 1), tool(1, 0)),
        tool(1, 1),
    ),
    "a call that waits for a person": (
        History().take().add(ModelAsked(step=1, message_count=1)).add(answer(1, 1), tool(1, 0, needs_approval=True)),
        result(1, 0),
    ),
    "the model, while paused": (History().take().add(RunPaused()), ModelAsked(step=1, message_count=1)),
    "a resume of what runs": (History().take(), RunResumed()),
    "a reduction of a step that is open": (
        History().take().add(ModelAsked(step=1, message_count=1)).add(answer(1, 1), tool(1, 0)),
        ContextReduced(strategy="discard_all", through_step=1),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_illegal_transitions_are_detected(case: str) -> None:
    history, event = REFUSED[case]
    state = replay(history.entries)
    before = copy.deepcopy(state)
    term = event.term if isinstance(event, LeaseTaken) else history.term
    with pytest.raises(IllegalTransition) as refused:
        state.apply(history.entry(event, term=term))
    assert refused.value.code == "ledger.illegal"
    assert state == before


def test_entries_of_an_owner_before_and_commands_taken_before_are_illegal() -> None:
    history = History().take().take()
    state = replay(history.entries)
    with pytest.raises(IllegalTransition, match="owner-2"):
        state.apply(history.entry(RunPaused(), owner="owner-1", term=1))
    state.apply(history.entry(RunPaused(command_id="c")))
    again = NumberedEntry(sequence=state.last_sequence + 1, entry=history.entry(RunResumed(command_id="c")).entry)
    with pytest.raises(IllegalTransition, match="taken before"):
        state.apply(again)


def test_random_histories_reach_every_kind_of_event() -> None:
    """Otherwise the properties above say little."""
    seen = {type(event) for seed in range(60) for numbered in history_of(seed, 60) for event in numbered.entry.events}
    assert seen == {
        RunAccepted,
        LeaseTaken,
        ModelAsked,
        ModelAnswered,
        ModelFailed,
        ToolAsked,
        ToolDecided,
        ToolAnswered,
        MessageAdded,
        ContextReduced,
        RunWaiting,
        RunPaused,
        RunResumed,
        RunEnded,
    }
