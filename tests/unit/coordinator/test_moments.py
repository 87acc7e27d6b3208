"""Things that happen while a moment is being recorded: appends that are lost take their time, and words, answers and
outcomes arrive meanwhile."""

import asyncio
import random
from contextlib import suppress

import pytest

from schemas.runs import ModelAsked, SteerRun
from shared.errors import Unavailable
from tests.integration.coordinator.scripted import Say, call, in_turn
from tests.unit.coordinator.harbour import Harbour, sail

STEPS = 6


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_asked_twice_whatever_arrives_meanwhile(seed: int) -> None:
    async def test(harbour: Harbour) -> None:
        rng = random.Random(seed)
        answers = [
            Say(calls=(call("look_up", f'{{"n":{n}}}', n),), seconds=rng.uniform(0.0, 0.5)) for n in range(STEPS)
        ]
        model = await harbour.model(in_turn(*answers, Say("Done.", seconds=0.5)))
        tools = await harbour.tools()
        await harbour.coordinator()
        run_id = await harbour.start()
        harbour.broker.lose_appends = 0.4
        hello = SteerRun(message=await harbour.message("Hello."))

        async def talk() -> None:
            for _ in range(12):
                await asyncio.sleep(rng.uniform(0.0, 0.6))
                with suppress(Unavailable):  # its append was lost: the sender would try again
                    if (await harbour.get(run_id)).status == "running":
                        await harbour.command(run_id, hello)

        await talk()
        harbour.broker.lose_appends = 0.0
        assert (await harbour.ended(run_id)).status == "finished"
        assert len(model.asked) == len(await harbour.events(run_id, ModelAsked))
        assert set(tools.worked.values()) == {1}
        assert len(tools.jobs) == len(tools.worked), "each job was enqueued once"

    sail(test)
