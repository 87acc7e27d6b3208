"""Lists and summaries of runs: complete, current, of one tenant, and replayed no more often than needed."""

import asyncio
import random

from services.coordinator.book import RunBook
from shared.ledger.journal import Ledger
from shared.ledger.state import RunState
from tests.integration.coordinator.scripted import Say, in_turn
from tests.unit.coordinator.harbour import Harbour, sail


class Counted(Ledger):
    """Says how often a run was replayed from its beginning."""

    replays = 0

    async def state(self, run_id: str) -> RunState:
        self.replays += 1
        return await super().state(run_id)


def test_pages_of_a_list_are_complete_and_newest_first() -> None:
    async def test(harbour: Harbour) -> None:
        await harbour.model(in_turn(Say("done")))
        await harbour.coordinator()
        rng = random.Random(1)
        tenants = {f"run-{number:026d}": rng.choice(["a", "b"]) for number in range(40)}
        spec = await harbour.spec(tools=())
        for run_id, tenant in tenants.items():
            await harbour.submit(spec, run_id=run_id, tenant=tenant)
        found: list[str] = []
        while True:
            page = await harbour.listed(tenant="a", limit=7, before=found[-1] if found else "")
            found += [summary.run_id for summary in page.runs]
            if not page.more:
                break
        assert found == sorted((run_id for run_id, tenant in tenants.items() if tenant == "a"), reverse=True)

    sail(test)


def test_a_list_by_status_holds_no_other() -> None:
    async def test(harbour: Harbour) -> None:
        await harbour.model(lambda messages: Say("done", seconds=1000.0 if "Wait" in str(messages) else 0.0))
        await harbour.coordinator()
        ended = await harbour.start("Go.", tools=())
        await harbour.ended(ended)
        going = await harbour.start("Wait.", tools=())
        await harbour.until(going, "running")
        for status, run_id in (("finished", ended), ("running", going)):
            assert [summary.run_id for summary in (await harbour.listed(status=status)).runs] == [run_id]

    sail(test)


def test_a_run_that_ended_is_replayed_once_by_whoever_asks_first() -> None:
    async def test(harbour: Harbour) -> None:
        await harbour.model(in_turn(Say("done")))
        await harbour.coordinator()
        run_id = await harbour.start(tools=())
        summary = await harbour.ended(run_id)
        harbour.memory.kept = {key: data for key, data in harbour.memory.kept.items() if "summaries" not in key}
        ledger = Counted(harbour.bus, harbour.clock)
        one, other = RunBook(ledger, harbour.blobs), RunBook(ledger, harbour.blobs)
        asked = [one.summary(run_id, "local") for _ in range(5)]
        assert await asyncio.gather(*asked) == [summary] * 5
        assert ledger.replays == 1
        assert await other.summary(run_id, "local") == summary
        assert ledger.replays == 1, "the other one reads what was kept"

    sail(test)


def test_a_question_of_a_tenant_without_runs_is_answered() -> None:
    async def test(harbour: Harbour) -> None:
        await harbour.coordinator()
        assert (await harbour.listed(tenant="nobody")).runs == ()

    sail(test)
