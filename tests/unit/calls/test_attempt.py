"""The pure decisions of a call: for every stream and every fault, items come once and in order, and trying ends."""

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.calls import CallBeat, CallEnded, CallItem, CallOutput
from shared.calls.attempt import MAX_REFUSAL_SECONDS, Attempts, Sequence, Step, Watch
from shared.calls.interface import CallPolicy

EMPTY = msgspec.Raw(b"\xc0")


def _stream(length: int) -> list[CallOutput]:
    messages: list[CallOutput] = []
    for number in range(length):
        messages += [CallBeat(next_sequence=number), CallItem(sequence=number, body=EMPTY)]
    return [*messages, CallEnded(next_sequence=length)]


def _received(messages: list[CallOutput]) -> tuple[list[int], Step]:
    """The items a caller takes, and the step at which it stopped reading (IGNORE: it waits for more)."""
    sequence, taken = Sequence(), []
    for message in messages:
        step = sequence.step(message)
        if step is Step.TAKE:
            assert isinstance(message, CallItem)
            taken.append(message.sequence)
        if step in (Step.GAP, Step.END):
            return taken, step
    return taken, Step.IGNORE


@given(st.integers(0, 20))
def test_an_undisturbed_stream_is_taken_whole(length: int) -> None:
    assert _received(_stream(length)) == (list(range(length)), Step.END)


@given(st.integers(0, 12), st.data())
def test_duplicates_change_nothing(length: int, data: st.DataObject) -> None:
    messages = _stream(length)
    doubled = [message for message in messages[:-1] for _ in range(data.draw(st.integers(1, 3)))]
    assert _received([*doubled, messages[-1]]) == (list(range(length)), Step.END)


@given(st.integers(1, 12), st.data())
def test_whatever_is_lost_and_reordered_no_item_is_skipped_or_doubled(length: int, data: st.DataObject) -> None:
    messages = _stream(length)
    kept = [message for message in messages if data.draw(st.booleans())]
    arrived = data.draw(st.permutations(kept))
    taken, last = _received(arrived)
    assert taken == list(range(len(taken)))
    assert last is not Step.END or len(taken) == length


def test_a_beat_shows_that_the_last_item_was_lost() -> None:
    assert _received([CallBeat(next_sequence=1)]) == ([], Step.GAP)


def _attempts(policy: CallPolicy) -> Attempts:
    return Attempts(policy, 0.0, random.Random(1))


def test_deaths_in_a_row_are_bounded_and_progress_starts_anew() -> None:
    attempts = _attempts(CallPolicy(attempts=3, recovery_seconds=1e9))
    for progress in (False, False, True, False, False):
        attempts.admitted(0.0)
        if progress:
            attempts.progressed()
        attempts.failed(0.0)
        assert not attempts.is_exhausted(0.0)
    attempts.admitted(0.0)
    attempts.failed(0.0)
    assert attempts.is_exhausted(0.0)


def test_refusals_are_bounded_by_time_and_not_by_number() -> None:
    attempts = _attempts(CallPolicy(attempts=3, recovery_seconds=60.0))
    for second in range(60):
        attempts.failed(float(second))
        assert not attempts.is_exhausted(float(second))
    assert attempts.is_exhausted(60.0)


def test_the_time_of_a_served_attempt_is_no_interruption() -> None:
    attempts = _attempts(CallPolicy(recovery_seconds=10.0))
    attempts.admitted(4.0)
    attempts.failed(1000.0)
    assert not attempts.is_exhausted(1005.0)
    assert attempts.is_exhausted(1006.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=60), st.integers(0, 2**32))
def test_trying_always_ends(outcomes: list[tuple[bool, float]], seed: int) -> None:
    """Without progress, no mix of deaths and refusals lasts longer than the policy allows."""
    policy = CallPolicy(attempts=8, recovery_seconds=20.0)
    attempts = Attempts(policy, 0.0, random.Random(seed))
    now = unserved = 0.0
    deaths = 0
    for admitted, seconds in outcomes:
        if admitted:
            attempts.admitted(now)
            deaths += 1
        attempts.failed(now)
        now += seconds
        unserved += seconds
        assert attempts.is_exhausted(now) == (deaths >= 8 or unserved >= 20.0) or abs(unserved - 20.0) < 1e-6


@given(st.integers(0, 40), st.one_of(st.none(), st.floats(0, 1e6)), st.integers(0, 2**32))
def test_waits_are_short_and_as_long_as_asked(failures: int, retry_after: float | None, seed: int) -> None:
    attempts = Attempts(CallPolicy(), 0.0, random.Random(seed))
    for _ in range(failures):
        attempts.failed(0.0)
    wait = attempts.wait_seconds(retry_after)
    assert min(retry_after or 0.0, MAX_REFUSAL_SECONDS) <= wait <= 1.25 * MAX_REFUSAL_SECONDS
    assert retry_after is not None or 0 < wait <= 1.0


@given(st.floats(0, 100), st.floats(0, 100))
def test_silence_is_counted_from_the_last_message(heard: float, later: float) -> None:
    watch = Watch(silence_seconds=2.0)
    watch.heard(heard)
    left = watch.left_seconds(heard + later)
    assert 0.0 <= left <= 2.0 + 1e-9
    assert (left == 0.0) == (heard + later >= heard + 2.0)
