"""Quotas of keys and tenants over HTTP: what is refused, with which words, and when it is admitted again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from schemas.chat import ChatDelta
from shared.bus.fake import FakeBroker
from shared.errors import Unavailable
from shared.keys import Quota, TenantEntry
from tests.unit.gateway.conftest import ANSWER, FINISHED, MODEL
from tests.unit.gateway.tenants import Person, SetClock, person, recording, write_keys

CHARGED = FINISHED.usage.prompt_tokens + FINISHED.usage.completion_tokens
CHAT = "/v1/chat/completions"


async def post(stand: Any, who: Person, path: str = CHAT, **fields: Any) -> tuple[int, dict[str, Any], Any]:
    """(status, error, headers)."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]} if path == CHAT else {}
    async with stand.http.post(stand.url + path, json=body | fields, headers=who.headers) as response:
        return response.status, (await response.json()).get("error", {}), response.headers


async def test_requests_of_a_minute(make_gateway: Any, tmp_path: Path) -> None:
    limited, other = person("acme", 1, requests_per_minute=2), person("acme", 2)
    clock = SetClock()
    async with make_gateway(keys_file=write_keys(tmp_path / "keys", limited, other), clock=clock) as stand:
        for left in (1, 0):
            status, _, headers = await post(stand, limited)
            assert status == 200
            assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("2", str(left))
            assert 59 <= int(headers["X-RateLimit-Reset"]) <= 61
        status, error, headers = await post(stand, limited)
        assert (status, error["type"], error["code"]) == (429, "rate_limit_reached_error", "quota.requests_per_minute")
        assert f"key {limited.key_id} has used its 2 requests per minute" in error["message"]
        assert 58 <= int(headers["Retry-After"]) <= 61
        assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("2", "0")
        async with stand.http.get(f"{stand.url}/v1/models", headers=limited.headers) as response:
            assert response.status == 200  # reading begins no work
        assert (await post(stand, other))[0] == 200
        clock.passed += int(headers["Retry-After"])
        assert (await post(stand, limited))[0] == 200


async def test_a_tenants_keys_share_its_quota(make_gateway: Any, tmp_path: Path) -> None:
    one, two, stranger = person("acme", 1), person("acme", 2), person("other")
    tenant = TenantEntry(tenant="acme", quota=Quota(requests_per_minute=2))
    async with make_gateway(keys_file=write_keys(tmp_path / "keys", one, two, stranger, tenant)) as stand:
        assert [(await post(stand, who))[0] for who in (one, two, one, two, stranger)] == [200, 200, 429, 429, 200]
        assert "tenant acme" in (await post(stand, one))[1]["message"]


async def test_requests_at_once(make_gateway: Any, tmp_path: Path) -> None:
    limited, go_on = person("acme", concurrent_requests=1), asyncio.Event()
    keys = write_keys(tmp_path / "keys", limited)
    async with make_gateway(keys_file=keys, script=(*ANSWER[:1], go_on, *ANSWER[1:])) as stand:
        first = asyncio.create_task(post(stand, limited, stream=False))
        await stand.called()
        status, error, headers = await post(stand, limited)
        assert (status, error["code"], headers["Retry-After"]) == (429, "quota.concurrent_requests", "1")
        go_on.set()
        assert (await first)[0] == 200
        assert (await post(stand, limited))[0] == 200


async def test_tokens_count_at_most_first_and_truly_later(make_gateway: Any, tmp_path: Path) -> None:
    limited, go_on = person("acme", tokens_per_minute=1000), asyncio.Event()
    keys = write_keys(tmp_path / "keys", limited)
    async with make_gateway(keys_file=keys, script=(*ANSWER[:1], go_on, *ANSWER[1:])) as stand:
        first = asyncio.create_task(post(stand, limited, max_completion_tokens=600))
        await stand.called()
        status, error, headers = await post(stand, limited, max_completion_tokens=600)
        assert (status, error["code"]) == (429, "quota.tokens_per_minute")
        assert 390 <= int(headers["X-RateLimit-Remaining"]) <= 400
        assert (await post(stand, limited, max_completion_tokens=600, n=2))[0] == 429
        go_on.set()
        assert (await first)[0] == 200
        for _ in range(10):
            assert (await post(stand, limited, max_completion_tokens=600))[0] == 200
        _, _, headers = await post(stand, limited, max_completion_tokens=1000)
        assert headers["X-RateLimit-Remaining"] == str(1000 - 11 * CHARGED)


async def test_more_than_the_whole_limit_is_not_tried_again(make_gateway: Any, tmp_path: Path) -> None:
    limited = person("acme", tokens_per_minute=1000)
    async with make_gateway(keys_file=write_keys(tmp_path / "keys", limited)) as stand:
        status, error, headers = await post(stand, limited, max_completion_tokens=2000)
        assert (status, headers["X-Should-Retry"]) == (429, "false")
        assert "has 1000 in all: ask for less" in error["message"]
        async with openai.AsyncOpenAI(base_url=f"{stand.url}/v1", api_key=limited.key, max_retries=5) as api:
            with pytest.raises(openai.RateLimitError):
                await api.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "hi"}], max_tokens=2000
                )
        assert stand.answer.requests == []


async def test_what_brought_nothing_costs_nothing(make_gateway: Any, tmp_path: Path) -> None:
    limited = person("acme", tokens_per_minute=1000)
    async with make_gateway(keys_file=write_keys(tmp_path / "keys", limited)) as stand:
        stand.answer.script = (Unavailable("engine.gone", "gone"),)
        for _ in range(3):
            assert (await post(stand, limited, max_completion_tokens=900))[0] == 503
        assert (await post(stand, limited, model="none", max_completion_tokens=900))[0] == 404


@pytest.mark.parametrize("end", ["fails", "goes away"])
async def test_a_broken_off_answer_is_charged_by_its_length(
    make_gateway: Any, tmp_path: Path, broker: FakeBroker, end: str
) -> None:
    """Else whoever goes away before the last chunk pays nothing."""
    limited, never = person("acme", tokens_per_day=2000), asyncio.Event()
    last: Any = Unavailable("engine.gone", "gone") if end == "fails" else never
    script = (ChatDelta(content="x" * 3000), ChatDelta(reasoning="y" * 1000), last)
    keys = write_keys(tmp_path / "keys", limited)
    async with make_gateway(keys_file=keys, broker=broker, script=script) as stand:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi" * 100}], "stream": True}
        async with stand.http.post(stand.url + CHAT, json=body, headers=limited.headers) as response:
            received = b""
            async for piece in response.content.iter_any():
                received += piece
                if b"y" * 1000 in received:
                    break
        (row,) = await usage(stand, limited, 1)
        assert row["completion_tokens"] == 1000
        assert 50 <= row["prompt_tokens"] <= 60
        status, error, headers = await post(stand, limited, max_completion_tokens=1500)
        assert (status, error["code"]) == (429, "quota.tokens_per_day")
        assert headers["X-RateLimit-Remaining"] == str(2000 - row["total_tokens"])


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[FakeBroker]:
    """With a recorder behind it."""
    broker = FakeBroker(seed=1)
    async with recording(broker, tmp_path / "recorder"):
        yield broker


async def usage(stand: Any, who: Person, requests: int) -> list[dict[str, Any]]:
    """``GET /v1/usage`` once so many requests are in it."""
    async with asyncio.timeout(10):
        while True:
            async with stand.http.get(f"{stand.url}/v1/usage", headers=who.headers) as response:
                assert response.status == 200
                rows = (await response.json())["data"]
            if sum(row["requests"] for row in rows) >= requests:
                return rows
            await asyncio.sleep(0.02)


async def test_tokens_of_a_day_outlive_the_gateway(make_gateway: Any, tmp_path: Path, broker: FakeBroker) -> None:
    limited, colleague = person("acme", 1, tokens_per_day=3 * CHARGED), person("acme", 2)
    keys = write_keys(
        tmp_path / "keys", limited, colleague, TenantEntry(tenant="acme", quota=Quota(tokens_per_day=4 * CHARGED))
    )
    async with make_gateway(keys_file=keys, broker=broker) as stand:
        for _ in range(2):
            assert (await post(stand, limited, max_completion_tokens=1))[0] == 200
        await usage(stand, limited, 2)
    async with make_gateway(keys_file=keys, broker=broker) as stand:
        assert (await post(stand, limited, max_completion_tokens=1))[0] == 200
        status, error, headers = await post(stand, limited, max_completion_tokens=1)
        assert (status, error["code"]) == (429, "quota.tokens_per_day")
        assert 0 < int(headers["Retry-After"]) <= 86_400
        assert headers["X-RateLimit-Remaining"] == "0"
        assert (await post(stand, colleague, max_completion_tokens=1))[0] == 200
        status, error, _ = await post(stand, colleague, max_completion_tokens=1)
        assert (status, error["code"]) == (429, "quota.tokens_per_day")
        assert "tenant acme" in error["message"]
        status, error, _ = await post(stand, colleague, "/v1/runs", model=MODEL, goal="x")
        assert (status, error["code"]) == (429, "quota.tokens_per_day")


async def test_a_run_gets_no_more_than_what_is_left_of_the_day(
    make_gateway: Any, tmp_path: Path, broker: FakeBroker
) -> None:
    limited, free = person("acme", tokens_per_day=100 * CHARGED), person("other")
    keys, metadata = write_keys(tmp_path / "keys", limited, free), {"capabilities": "tools"}
    async with make_gateway(keys_file=keys, broker=broker, coordinator={}, metadata=metadata) as stand:
        assert (await post(stand, limited, max_completion_tokens=1))[0] == 200
        run: dict[str, Any] = {"path": "/v1/runs", "model": MODEL, "goal": "Count."}
        for who, budget in ((limited, {}), (limited, {"max_tokens": 7}), (limited, {"max_tokens": 10**6}), (free, {})):
            assert (await post(stand, who, **run, **({"budget": budget} if budget else {})))[0] == 200
        budgets = [submitted.spec.budget.max_tokens for submitted in stand.coordinator.submitted]
        assert budgets == [99 * CHARGED, 7, 99 * CHARGED, None]


async def test_another_gateways_use_counts_within_seconds(
    make_gateway: Any, tmp_path: Path, broker: FakeBroker
) -> None:
    limited, clock = person("acme", tokens_per_day=12 * CHARGED), SetClock()
    keys = write_keys(tmp_path / "keys", limited)
    async with (
        make_gateway(keys_file=keys, broker=broker, clock=clock) as one,
        make_gateway(keys_file=keys, broker=broker) as two,
    ):
        assert (await post(one, limited, max_completion_tokens=1))[0] == 200
        for _ in range(10):
            assert (await post(two, limited, max_completion_tokens=1))[0] == 200
        await usage(two, limited, 11)
        clock.passed += 11
        async with asyncio.timeout(10):
            while (await post(one, limited, max_completion_tokens=1))[0] != 429:  # noqa: ASYNC110 - behind a socket
                await asyncio.sleep(0.02)
        assert 2 <= len(one.answer.requests) <= 4, "some more, while the newer figure was being asked for"


async def test_usage_is_the_tenants_own(make_gateway: Any, tmp_path: Path, broker: FakeBroker) -> None:
    one, two, stranger = person("acme", 1), person("acme", 2), person("other")
    async with make_gateway(keys_file=write_keys(tmp_path / "keys", one, two, stranger), broker=broker) as stand:
        for who in (one, two, two, stranger):
            assert (await post(stand, who))[0] == 200
        assert (await post(stand, one, model="none"))[0] == 404
        rows = await usage(stand, one, 3)
        assert [(row["tenant"], row["key_id"], row["requests"]) for row in rows] == [
            ("acme", one.key_id, 1),
            ("acme", two.key_id, 2),
        ]
        assert rows[1]["model"] == MODEL
        assert rows[1]["total_tokens"] == rows[1]["prompt_tokens"] + rows[1]["completion_tokens"] == 2 * CHARGED
        assert rows[1]["cached_tokens"] == 2 * FINISHED.usage.cached_tokens
        assert [row["tenant"] for row in await usage(stand, stranger, 1)] == ["other"]
        for query, expected in (("?from=2001-01-01&to=2001-12-31", []), ("?from=x", None), ("?to=20261125", None)):
            async with stand.http.get(f"{stand.url}/v1/usage{query}", headers=one.headers) as response:
                assert (await response.json()).get("data") == expected


async def test_without_a_recorder_work_goes_on(
    make_gateway: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limited = person("acme", tokens_per_day=3 * CHARGED)
    async with make_gateway(keys_file=write_keys(tmp_path / "keys", limited)) as stand:
        statuses = [(await post(stand, limited, max_completion_tokens=1))[0] for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        assert "usage of today is not known" in caplog.text
        async with stand.http.get(f"{stand.url}/v1/usage", headers=limited.headers) as response:
            assert response.status == 503


async def test_runs_at_once(make_gateway: Any, tmp_path: Path) -> None:
    limited, colleague, stranger = person("acme", 1, concurrent_runs=1), person("acme", 2), person("other")
    tenant = TenantEntry(tenant="acme", quota=Quota(concurrent_runs=2))
    keys = write_keys(tmp_path / "keys", limited, colleague, stranger, tenant)
    metadata = {"capabilities": "tools"}
    async with make_gateway(keys_file=keys, coordinator={}, metadata=metadata) as stand:
        run: dict[str, Any] = {"path": "/v1/runs", "model": MODEL, "goal": "Count."}
        answers = await asyncio.gather(*(post(stand, limited, **run) for _ in range(4)))
        assert sorted(status for status, _, _ in answers) == [200, 429, 429, 429]
        refused = next(error for status, error, _ in answers if status == 429)
        assert (refused["type"], refused["code"]) == ("rate_limit_reached_error", "quota.concurrent_runs")
        assert [(await post(stand, who, **run))[0] for who in (colleague, colleague, stranger)] == [200, 429, 200]
        for run_id in list(stand.coordinator.ledgers):
            await stand.coordinator.answer(run_id, "done")
        headers = limited.headers | {"Idempotency-Key": "one"}
        body = {"model": MODEL, "goal": "Count."}
        replies = await asyncio.gather(
            *(stand.http.post(f"{stand.url}/v1/runs", json=body, headers=headers) for _ in range(4))
        )
        assert [reply.status for reply in replies] == [200] * 4, "one key is one run, which needs one place"
        assert len({(await reply.json())["id"] for reply in replies}) == 1
        await stand.coordinator.answer((await replies[0].json())["id"], "done")
        assert (await post(stand, limited, **run))[0] == 200
