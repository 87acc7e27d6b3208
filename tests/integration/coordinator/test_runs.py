"""Whole runs: a real coordinator process and a real broker, a scripted model and scripted tools."""

from schemas.runs import ModelAnswered, ModelAsked, RunAccepted, RunEnded, ToolAnswered, ToolAsked
from tests.integration.coordinator.scripted import Say, call, in_turn, notes, words
from tests.integration.coordinator.stage import Stage


async def test_a_run_works_until_the_model_answers_without_a_call(stage: Stage) -> None:
    model = await stage.model(
        in_turn(
            Say(calls=(call("look_up", '{"q":"tide"}', 0), call("note", '{"line":1}', 1))),
            Say("Noted.", calls=(call("note", '{"line":2}', 2),), reasoning="one more"),
            Say("All done."),
        )
    )
    tools = await stage.tools()
    await stage.coordinator()
    run_id = await stage.start("Look the tide up, and take notes.")
    summary = await stage.ended(run_id)
    assert summary.status == "finished", summary.failure
    assert await stage.answer(summary) == "All done."
    assert (summary.step, summary.usage.completion_tokens) == (3, 30)
    assert await notes(stage.blobs, summary.workspace) == b'{"line":1}\n{"line":2}\n'
    assert sum(tools.worked.values()) == 3
    shown = model.conversations[-1]
    assert [message.role for message in shown] == ["system", "user", "assistant", "tool", "tool", "assistant", "tool"]
    assert [message.tool_call_id for message in shown if message.role == "tool"] == [
        "functions.look_up:0",
        "functions.note:1",
        "functions.note:2",
    ]
    assert words(shown[3]) == 'found {"q":"tide"}'
    assert {request.cache_key for request in model.asked} == {run_id}
    assert [request.expected_pause_seconds for request in model.asked] == [2.0, 2.0, 2.0]


async def test_the_ledger_has_one_append_per_moment_and_every_intent_before_its_effect(stage: Stage) -> None:
    await stage.model(in_turn(Say(calls=(call("look_up", "{}", 0), call("look_up", '{"x":1}', 1))), Say("Done.")))
    await stage.tools()
    await stage.coordinator()
    run_id = await stage.start()
    await stage.ended(run_id)
    entries = await stage.entries(run_id)
    kinds = [[type(event) for event in entry.entry.events] for entry in entries]
    assert kinds[0] == [RunAccepted]
    asking = next(kind for kind in kinds if ModelAnswered in kind)
    assert asking == [ModelAnswered, ToolAsked, ToolAsked]
    assert next(kind for kind in kinds if ToolAnswered in kind and ModelAsked in kind)[-1] == ModelAsked
    assert kinds[-1] == [ModelAnswered, RunEnded]
