"""What becomes of a run when its model or its tools are not there, refuse, or fail."""

from itertools import pairwise

import pytest

from schemas.chat import Message, ToolCall
from schemas.codec import decode
from schemas.failure import NOT_RESUMABLE, Failure
from schemas.runs import ModelFailed, RunBudget, RunWaiting
from shared.errors import BadInput, Busy, Internal, MoontideError, Unavailable
from tests.integration.coordinator.scripted import Say, call, in_turn, words
from tests.unit.coordinator.harbour import Harbour, sail

QUOTA = Unavailable("upstream.quota", "the quota at the model's endpoint is used up", status=502)


def failing(error: MoontideError, times: int) -> list[Say]:
    """Answers of a model that refuses so often, and then answers: by calls, not by turns."""
    return [*[Say(error=error)] * times, Say("done")]


async def run(harbour: Harbour, answers: list[Say], **fields: object) -> str:
    left = list(answers)
    await harbour.model(lambda _: left.pop(0) if len(left) > 1 else left[0])
    await harbour.tools()
    await harbour.coordinator()
    return await harbour.start(**fields)


def test_a_used_up_quota_is_a_visible_state_within_five_seconds_and_waited_for() -> None:
    async def test(harbour: Harbour) -> None:
        began = harbour.clock.monotonic_seconds()
        run_id = await run(harbour, failing(QUOTA, 4))
        summary = await harbour.until(run_id, "waiting")
        assert harbour.clock.monotonic_seconds() - began < 5.0
        assert summary.waiting is not None
        assert (summary.waiting.code, summary.waiting.message) == (QUOTA.code, QUOTA.message)
        assert (await harbour.ended(run_id)).status == "finished"
        assert len(await harbour.events(run_id, ModelFailed)) == 4
        waits = [event.until_unix_seconds for event in await harbour.events(run_id, RunWaiting)]
        pauses = [after - before for before, after in pairwise(waits)]
        assert all(1.5 * one < other for one, other in pairwise(pauses)), "longer and longer"

    sail(test)


def test_a_model_that_nobody_serves_any_more_is_visible_within_five_seconds() -> None:
    async def test(harbour: Harbour) -> None:
        await harbour.tools()
        await harbour.coordinator()
        model = await harbour.model(in_turn(Say(calls=(call("look_up"),)), Say("done", seconds=0.2)))
        endpoint = harbour.broker.endpoints[-1]
        run_id = await harbour.start()
        while len(model.asked) == 0:
            await harbour.clock.sleep(0.01)
        harbour.broker.endpoints.remove(endpoint)
        began = harbour.clock.monotonic_seconds()
        summary = await harbour.until(run_id, "waiting")
        assert harbour.clock.monotonic_seconds() - began < 5.0
        assert summary.waiting is not None
        assert summary.waiting.code == "bus.no_responder"
        harbour.broker.endpoints.append(endpoint)
        assert (await harbour.ended(run_id)).status == "finished"

    sail(test)


@pytest.mark.parametrize("asked", [0.5, 1.0, 4.0, 20.0])
def test_a_full_model_is_visible_within_five_seconds_and_left_alone_for_as_long_as_it_asks(asked: float) -> None:
    async def test(harbour: Harbour) -> None:
        began = harbour.clock.monotonic_seconds()
        full = Busy("upstream.busy", "full", retry_after_seconds=asked)
        run_id = await run(harbour, failing(full, 6), budget=RunBudget(max_seconds=1000.0))
        summary = await harbour.until(run_id, "waiting")
        assert harbour.clock.monotonic_seconds() - began < 5.0
        waiting = (await harbour.events(run_id, RunWaiting))[0]
        assert waiting.until_unix_seconds >= summary.updated_unix_seconds + asked
        assert (await harbour.ended(run_id, timeout_seconds=300.0)).status == "finished"

    sail(test)


def test_a_permanent_refusal_fails_the_run_with_its_reason() -> None:
    async def test(harbour: Harbour) -> None:
        run_id = await run(harbour, failing(BadInput("upstream.refused", "not with these tools", param="tools"), 1))
        summary = await harbour.ended(run_id)
        assert summary.status == "failed"
        assert summary.failure == Failure(
            code="upstream.refused", message="not with these tools", status=400, param="tools"
        )

    sail(test)


@pytest.mark.parametrize("calls", [(), (call("look_up"),)])
def test_an_answer_that_breaks_off_and_cannot_be_continued_is_asked_for_anew(calls: tuple[ToolCall, ...]) -> None:
    async def test(harbour: Harbour) -> None:
        broken, whole = Say("half of", interrupted=True), Say("all of it", calls)
        run_id = await run(harbour, [broken, whole, Say("all of it")])
        summary = await harbour.ended(run_id)
        assert summary.status == "finished"
        assert summary.answer is not None
        answer = decode(await harbour.blobs.resolve(summary.answer), Message)
        assert words(answer) == "all of it"
        assert [event.failure.code for event in await harbour.events(run_id, ModelFailed)] == [NOT_RESUMABLE]

    sail(test)


def test_a_model_that_does_not_know_what_another_one_began_is_asked_for_anew() -> None:
    async def test(harbour: Harbour) -> None:
        unknown = BadInput("chat.bad_resume", "resume is not what this model has sent", param="resume")
        run_id = await run(harbour, failing(unknown, 1))
        assert (await harbour.ended(run_id)).status == "finished"

    sail(test)


def test_a_mistake_of_ours_that_comes_again_and_again_ends_the_run() -> None:
    async def test(harbour: Harbour) -> None:
        run_id = await run(harbour, [Say(error=Internal("chat.broken", "broken"))], budget=RunBudget())
        summary = await harbour.ended(run_id, timeout_seconds=3600.0)
        assert summary.failure is not None
        assert summary.failure.code == "chat.broken"

    sail(test)


def test_waiting_ends_with_the_runs_time() -> None:
    async def test(harbour: Harbour) -> None:
        run_id = await run(harbour, [Say(error=QUOTA)], budget=RunBudget(max_seconds=100.0))
        summary = await harbour.ended(run_id, timeout_seconds=300.0)
        assert summary.failure is not None
        assert summary.failure.code == "run.budget_seconds"
        assert 100.0 <= summary.updated_unix_seconds - summary.created_unix_seconds < 102.0

    sail(test)


def test_tools_that_are_away_are_waited_for_visibly() -> None:
    async def test(harbour: Harbour) -> None:
        await harbour.model(in_turn(Say("done")))
        await harbour.coordinator()
        run_id = await harbour.start()
        summary = await harbour.until(run_id, "waiting")
        assert summary.waiting is not None
        assert summary.waiting.code == "bus.no_responder"
        await harbour.clock.sleep(60.0)
        assert len(await harbour.events(run_id, RunWaiting)) == 1, "visible once"
        await harbour.tools()
        assert (await harbour.ended(run_id)).status == "finished"

    sail(test)


def test_a_run_without_tools_needs_no_tools_process() -> None:
    async def test(harbour: Harbour) -> None:
        model = await harbour.model(in_turn(Say("done")))
        await harbour.coordinator()
        run_id = await harbour.start(tools=())
        assert (await harbour.ended(run_id)).status == "finished"
        assert model.asked[0].tools == b""

    sail(test)
