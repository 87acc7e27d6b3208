"""Short storms: every request ends once with the tokens it would get alone, and planted defects are seen."""

import asyncio
from pathlib import Path

import pytest

from shared.model import presets
from shared.model.initialise import initialise
from tests import virtual_time
from tests.chaos.engine import BREAKS, Asking, World, run
from tests.waiting import until


def test_a_storm_loses_nothing() -> None:
    """``make chaos-engine``, with fewer requests."""
    result = run(seed=11, count=400)
    assert result["faults"] == 0, result
    assert sum(result["ends"].values()) == 400
    assert result["kills"].keys() == {"engine", "shard", "encoder"}
    assert result["preempted"] > 0
    assert result["cached_tokens"] > 0


@pytest.mark.parametrize("broken", BREAKS)
def test_planted_defects_are_seen(broken: str) -> None:
    assert run(seed=2, count=150, broken=broken)["faults"] > 0


async def lose_a_shard(directory: Path) -> None:
    world = World(directory, 1, "")
    for name in ("shard-1", "encoder-1", "engine-1"):
        world.start(name)
    asking = Asking(world, 1)
    asking.kind, asking.count = "whole", 300
    answer = asyncio.create_task(asking.run())
    await until(lambda: len(asking.ids) > 20, 60)
    engine = next(iter(world.engines))
    bus, task = world._alive.pop("shard-1")
    bus.kill()
    task.cancel()
    before = world.clock.monotonic_seconds()
    await until(lambda: not engine.state.running, 10)
    assert world.clock.monotonic_seconds() - before < 1.0
    engine.state.cache.check_invariants([])
    assert engine.state.cache.available == engine.state.cache.pages
    world.start("shard-2")
    await answer
    assert world.ends == {"whole": 1}
    assert not world.faults
    await world.stop()


def test_a_lost_shard_is_noticed_within_a_second_and_answers_go_on(tmp_path: Path) -> None:
    initialise(tmp_path / "chaos", presets.document("tiny", 512), seed=1, tokenizer_config=None)
    virtual_time.run(lose_a_shard(tmp_path / "chaos"))
