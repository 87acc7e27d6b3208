"""A tool that was there when a run was accepted, and is away when another owner takes the run."""

from tests.integration.coordinator.scripted import Say, in_turn, serving_tools, standard_tools
from tests.unit.coordinator.harbour import Harbour, sail


def test_a_named_tool_that_is_away_is_waited_for_visibly() -> None:
    async def test(harbour: Harbour) -> None:
        await harbour.model(in_turn(Say("done", seconds=5.0)))
        tools = standard_tools(harbour.bus, harbour.blobs)
        first = await harbour.mortal()
        async with serving_tools(harbour.bus, tools):
            run_id = await harbour.start(tools=("look_up",))
            await harbour.until(run_id, "running")
        first.kill()
        async with serving_tools(harbour.bus, tools, ()):
            await harbour.mortal()
            summary = await harbour.until(run_id, "waiting")
        assert summary.waiting is not None
        assert summary.waiting.code == "run.tool_missing"
        assert "look_up" in summary.waiting.message
        async with serving_tools(harbour.bus, tools):
            assert (await harbour.ended(run_id)).status == "finished"

    sail(test)
