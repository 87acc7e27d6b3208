"""What a run is held to: budgets, useless calls, and what it may be begun with."""

from pathlib import Path

import msgspec
import pytest

from schemas.blobs import BlobRef
from schemas.chat import Message
from schemas.codec import decode, encode_json
from schemas.runs import MessageAdded, ModelAnswered, RunBudget, RunOrigin, SeedFile, ToolAnswered
from schemas.tools import ToolFile, ToolFinished, ToolJob, WorkspaceFile, WorkspaceTree
from services.coordinator.config import CoordinatorConfig
from services.coordinator.repetition import MAX_FRUITLESS_STEPS, MAX_SAME_CALLS
from shared.errors import BadInput, NotFound
from tests.integration.coordinator.scripted import DECLARED, Say, Script, call, declared, in_turn, standard_tools, words
from tests.unit.coordinator.harbour import CONFIG, Harbour, sail


def always(say: Say) -> Script:
    return lambda _: say


def counting(**fields: object) -> Script:
    """A call with new arguments at each step, for ever."""

    def script(messages: list[Message]) -> Say:
        given = sum(message.role == "assistant" for message in messages)
        return Say(calls=(call("look_up", f'{{"n":{given}}}', given),), **fields)  # type: ignore[arg-type]

    return script


async def failed(harbour: Harbour, script: Script, config: CoordinatorConfig = CONFIG, **fields: object) -> str:
    await harbour.model(script)
    await harbour.tools()
    await harbour.coordinator(config)
    return await harbour.start(**fields)


def test_no_step_beyond_the_budget_is_begun() -> None:
    async def test(harbour: Harbour) -> None:
        run_id = await failed(harbour, counting(), budget=RunBudget(max_steps=5))
        summary = await harbour.ended(run_id)
        assert (summary.status, summary.step) == ("failed", 5)
        assert summary.failure is not None
        assert summary.failure.code == "run.budget_steps"

    sail(test)


def test_the_model_is_told_when_few_steps_are_left() -> None:
    async def test(harbour: Harbour) -> None:
        model = await harbour.model(counting())
        await harbour.tools()
        await harbour.coordinator()
        await harbour.ended(await harbour.start(budget=RunBudget(max_steps=6)))
        told = [[words(m) for m in shown if "more steps are left" in words(m)] for shown in model.conversations]
        assert [len(said) for said in told] == [0, 0, 0, 1, 1, 1]

    sail(test)


def test_tokens_are_kept_to_and_the_answer_is_bounded_by_what_is_left() -> None:
    async def test(harbour: Harbour) -> None:
        model = await harbour.model(counting(prompt_tokens=200, completion_tokens=100))
        await harbour.tools()
        await harbour.coordinator()
        run_id = await harbour.start(budget=RunBudget(max_tokens=3000))
        summary = await harbour.ended(run_id)
        assert summary.failure is not None
        assert summary.failure.code == "run.budget_tokens"
        assert summary.usage.prompt_tokens + summary.usage.completion_tokens <= 3000
        limits = [request.sampling.max_tokens for request in model.asked]
        assert all(limit is not None and limit <= 3000 for limit in limits)
        assert limits == sorted(limits, reverse=True)

    sail(test)


def test_money_is_kept_to(tmp_path: Path) -> None:
    async def test(harbour: Harbour) -> None:
        prices = tmp_path / "prices.json"
        prices.write_bytes(encode_json({"scripted": {"prompt": 1.0, "completion": 10.0}}))
        run_id = await failed(
            harbour,
            counting(prompt_tokens=1000, completion_tokens=100),
            CoordinatorConfig(prices_file=prices),
            budget=RunBudget(max_cost_usd=0.01),
        )
        summary = await harbour.ended(run_id)
        assert summary.failure is not None
        assert summary.failure.code == "run.budget_cost"
        assert 0.005 < summary.cost_usd <= 0.01
        answered = await harbour.events(run_id, ModelAnswered)
        assert {round(event.cost_usd, 6) for event in answered} == {0.002}

    sail(test)


def test_time_is_kept_to_in_the_middle_of_a_call() -> None:
    async def test(harbour: Harbour) -> None:
        run_id = await failed(harbour, always(Say("late", seconds=500.0)), budget=RunBudget(max_seconds=100.0))
        summary = await harbour.ended(run_id, timeout_seconds=400.0)
        assert summary.failure is not None
        assert summary.failure.code == "run.budget_seconds"
        assert 100.0 <= summary.updated_unix_seconds - summary.created_unix_seconds < 102.0

    sail(test)


def test_useless_calls_are_answered_in_words_and_end_the_run_when_they_go_on() -> None:
    async def test(harbour: Harbour) -> None:
        bad = (call("nothing", "{}", 0), call("look_up", "[1", 1), call("look_up", "[1]", 2))
        model = await harbour.model(always(Say(calls=bad)))
        tools = await harbour.tools()
        await harbour.coordinator()
        run_id = await harbour.start()
        summary = await harbour.ended(run_id)
        assert summary.failure is not None
        assert summary.failure.code == "run.no_progress"
        assert summary.step == MAX_FRUITLESS_STEPS
        assert not tools.jobs
        told = [words(message) for message in model.conversations[1] if message.role == "tool"]
        assert "no tool called 'nothing'" in told[0]
        assert "look_up, note, slow" in told[0]
        assert "not JSON" in told[1]
        assert "not a JSON object" in told[2]
        history = next(message for message in model.conversations[1] if message.role == "assistant")
        assert [made.arguments for made in history.tool_calls] == ["{}", "{}", "{}"]

    sail(test)


def test_the_same_call_again_and_again_is_noticed() -> None:
    async def test(harbour: Harbour) -> None:
        model = await harbour.model(always(Say(calls=(call("look_up", '{"q":"x"}'),))))
        tools = await harbour.tools()
        await harbour.coordinator()
        run_id = await harbour.start()
        summary = await harbour.ended(run_id)
        assert summary.failure is not None
        assert summary.failure.code == "run.no_progress"
        assert len(tools.jobs) == MAX_SAME_CALLS
        assert summary.step == MAX_SAME_CALLS + MAX_FRUITLESS_STEPS
        assert "exactly this call 5 times" in words(model.conversations[5][-1])

    sail(test)


def test_the_same_call_on_a_changed_workspace_is_a_new_one() -> None:
    async def test(harbour: Harbour) -> None:
        def script(messages: list[Message]) -> Say:
            given = sum(message.role == "assistant" for message in messages)
            if given == 20:
                return Say("done")
            made = call("look_up", '{"q":"x"}') if given % 2 else call("note", f'{{"n":{given}}}')
            return Say(calls=(made,))

        run_id = await failed(harbour, script)
        assert (await harbour.ended(run_id)).status == "finished"

    sail(test)


def test_empty_and_cut_off_answers_are_asked_to_go_on() -> None:
    async def test(harbour: Harbour) -> None:
        said = in_turn(Say("", reasoning="hm"), Say("half of", finish_reason="length"), Say("the whole"))
        run_id = await failed(harbour, said)
        summary = await harbour.ended(run_id)
        assert await harbour.answer(summary) == "the whole"
        notes = await harbour.events(run_id, MessageAdded)
        assert [note.author for note in notes] == ["coordinator", "coordinator"]

    sail(test)


def test_a_tool_that_fails_tells_the_model_why() -> None:
    async def test(harbour: Harbour) -> None:
        model = await harbour.model(in_turn(Say(calls=(call("look_up"),)), Say("done")))
        tools = standard_tools(harbour.bus, harbour.blobs)

        async def broken(job: ToolJob) -> ToolFinished:
            failure = BadInput("tool.failed", "it is closed today").to_failure()
            return ToolFinished(call_id=job.call_id, failure=failure, possibly_repeated=True)

        tools.work["look_up"] = broken
        await harbour.tools(tools)
        await harbour.coordinator()
        run_id = await harbour.start()
        assert (await harbour.ended(run_id)).status == "finished"
        assert words(model.conversations[1][-1]) == "it is closed today"
        (answered,) = await harbour.events(run_id, ToolAnswered)
        assert answered.possibly_repeated

    sail(test)


def test_calls_that_write_run_in_order_and_readers_see_the_workspace_before_them() -> None:
    async def test(harbour: Harbour) -> None:
        calls = (call("note", '{"n":1}', 0), call("look_up", "{}", 1), call("note", '{"n":2}', 2))
        await harbour.model(in_turn(Say(calls=calls), Say("done")))
        tools = await harbour.tools()
        await harbour.coordinator()
        seed = SeedFile(path="seed.txt", content=await harbour.blobs.put(b"seed"))
        run_id = await harbour.start(files=(seed,))
        summary = await harbour.ended(run_id)
        jobs = {job.call_id[-1]: job for job in tools.jobs}
        tree = WorkspaceTree(files=(WorkspaceFile(path="seed.txt", content=seed.content),))
        assert decode(await harbour.blobs.get(jobs["0"].workspace or seed.content), WorkspaceTree) == tree
        assert jobs["1"].workspace == jobs["0"].workspace
        assert jobs["2"].workspace not in (None, jobs["0"].workspace)
        assert summary.workspace not in (None, jobs["2"].workspace)

    sail(test)


def test_a_run_on_a_repository_ends_with_a_patch() -> None:
    async def test(harbour: Harbour) -> None:
        await harbour.model(in_turn(Say(calls=(call("note"),)), Say("done")))
        tools = standard_tools(harbour.bus, harbour.blobs)
        patch = ToolFile(name="run.patch", media_type="text/x-diff", content=await harbour.blobs.put(b"--- a"))

        async def make(job: ToolJob) -> ToolFinished:
            return ToolFinished(call_id=job.call_id, files=(patch,))

        tools.work["$patch"] = make
        await harbour.tools(tools)
        await harbour.coordinator()
        bundle = await harbour.blobs.put(b"bundle")
        run_id = await harbour.start(repository=bundle)
        summary = await harbour.ended(run_id)
        assert (summary.status, summary.files) == ("finished", (patch,))
        first, last = tools.jobs
        assert (first.repository, first.workspace) == (bundle, None)
        assert (last.tool, last.repository, last.workspace) == ("$patch", bundle, summary.workspace)

    sail(test)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"kind": "swarm"}, "kind"),
        ({"budget": RunBudget(max_steps=0)}, "budget.max_steps"),
        ({"budget": RunBudget(max_tokens=-1)}, "budget.max_tokens"),
        ({"budget": RunBudget(max_seconds=1e9)}, "budget.max_seconds"),
        ({"budget": RunBudget(max_cost_usd=1.0)}, "budget"),
        ({"tools": ("look_up", "absent")}, "tools"),
        ({"tools": ("$patch",)}, "tools"),
        ({"title": "x" * 1000}, "title"),
        ({"files": (SeedFile(path="../up", content=BlobRef(key="k", size_bytes=1)),)}, "files[0].path"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(fields: dict[str, object], param: str) -> None:
    async def test(harbour: Harbour) -> None:
        await harbour.model(in_turn(Say("done")))
        await harbour.tools(declarations=(*DECLARED, declared("$patch")))
        await harbour.coordinator()
        spec = msgspec.structs.replace(await harbour.spec(), **fields)
        with pytest.raises(BadInput) as refused:
            await harbour.submit(spec)
        assert refused.value.param == param
        assert (await harbour.listed()).runs == ()

    sail(test)


def test_a_model_that_is_not_served_is_refused() -> None:
    async def test(harbour: Harbour) -> None:
        await harbour.model(in_turn(Say("done")))
        await harbour.coordinator()
        spec = msgspec.structs.replace(await harbour.spec(), model="other")
        with pytest.raises(NotFound, match="other"):
            await harbour.submit(spec)

    sail(test)


def test_a_fork_of_a_run_on_a_repository_makes_its_own_patch() -> None:
    async def test(harbour: Harbour) -> None:
        def script(messages: list[Message]) -> Say:
            given = sum(message.role == "assistant" for message in messages)
            is_told = messages[-1].role == "tool"
            return Say("done") if is_told else Say(calls=(call("note", f'{{"n":{given}}}', given),))

        await harbour.model(script)
        tools = standard_tools(harbour.bus, harbour.blobs)
        patch = ToolFile(name="run.patch", media_type="text/x-diff", content=await harbour.blobs.put(b"--- a"))

        async def make(job: ToolJob) -> ToolFinished:
            return ToolFinished(call_id=job.call_id, files=(patch,))

        tools.work["$patch"] = make
        await harbour.tools(tools)
        await harbour.coordinator()
        bundle = await harbour.blobs.put(b"bundle")
        origin = await harbour.start(repository=bundle)
        await harbour.ended(origin)
        spec = await harbour.spec("Another note.", repository=bundle)
        forked = await harbour.submit(spec, origin=RunOrigin(run_id=origin, step=2))
        summary = await harbour.ended(forked.run_id)
        assert (summary.status, summary.files) == ("finished", (patch,)), summary.failure
        assert [job.tool for job in tools.jobs] == ["note", "$patch", "note", "$patch"]

    sail(test)


def test_more_runs_than_a_process_drives_wait_their_turn() -> None:
    async def test(harbour: Harbour) -> None:
        model = await harbour.model(in_turn(Say("done", seconds=5.0)))
        await harbour.coordinator(CoordinatorConfig(max_runs=2))
        runs = [await harbour.start(f"Goal {number}.", tools=()) for number in range(7)]
        most = 0
        while len(model.asked) < 7:
            most = max(most, model.in_flight)
            await harbour.clock.sleep(0.2)
        assert most == 2
        assert {(await harbour.ended(run_id)).status for run_id in runs} == {"finished"}

    sail(test)
