"""Who is let in: keys that come, go and expire while the gateway runs, and are seen nowhere."""

import asyncio
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.gateway.keys import Keys
from services.gateway.keys_file import KeysWatch, read
from shared.bus.fake import FakeBroker
from shared.clock import SystemClock
from shared.errors import Unauthorized
from shared.keys import TenantEntry
from tests.unit.gateway.conftest import ANSWER
from tests.unit.gateway.tenants import Person, SetClock, recording, write_keys
from tests.waiting import until

POLL = 0.02


async def status(stand: Any, person: Person, path: str = "/v1/models") -> tuple[int, str]:
    async with stand.http.get(stand.url + path, headers=person.headers) as response:
        body = await response.json()
        return response.status, body.get("error", {}).get("code", "")


async def becomes(stand: Any, person: Person, expected: tuple[int, str]) -> None:
    async with asyncio.timeout(10):
        while await status(stand, person) != expected:  # noqa: ASYNC110 - the other side of a socket
            await asyncio.sleep(0.01)


async def test_keys_come_and_go_without_a_restart(make_gateway: Any, tmp_path: Path) -> None:
    alice, bob = Person("acme"), Person("other")
    keys = write_keys(tmp_path / "keys", alice)
    async with make_gateway(keys_file=keys, keys_poll_seconds=POLL) as stand:
        assert await status(stand, alice) == (200, "")
        assert await status(stand, bob) == (401, "incorrect_api_key")
        write_keys(keys, alice, bob)
        await becomes(stand, bob, (200, ""))
        write_keys(keys, Person("acme", key=alice.key, fields={"disabled": True}), bob)
        await becomes(stand, alice, (401, "revoked_api_key"))
        write_keys(keys, bob)
        await becomes(stand, alice, (401, "incorrect_api_key"))
        write_keys(keys, bob, TenantEntry(tenant="other", suspended=True))
        await becomes(stand, bob, (403, "tenant_suspended"))


async def test_refusals_have_moonshots_types(make_gateway: Any, tmp_path: Path) -> None:
    revoked, suspended = Person("acme", fields={"disabled": True}), Person("other")
    keys = write_keys(tmp_path / "keys", revoked, suspended, TenantEntry(tenant="other", suspended=True))
    async with make_gateway(keys_file=keys) as stand:
        for headers, status, kind in (
            ({}, 401, "invalid_authentication_error"),
            ({"Authorization": "Bearer mt-unknown"}, 401, "incorrect_api_key_error"),
            (revoked.headers, 401, "invalid_authentication_error"),
            (suspended.headers, 403, "permission_denied_error"),
        ):
            async with stand.http.get(f"{stand.url}/v1/models", headers=headers) as response:
                assert (response.status, (await response.json())["error"]["type"]) == (status, kind)
                assert ("WWW-Authenticate" in response.headers) is (status == 401)


@pytest.mark.parametrize("end", ["revoked", "gone", "expired", "suspended"])
async def test_a_key_that_ends_ends_what_it_holds(make_gateway: Any, tmp_path: Path, end: str) -> None:
    """A stream may take hours, and a run's events longer."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    alice, bob = Person("acme", fields={"expires": soon}), Person("other")
    keys, clock, never = write_keys(tmp_path / "keys", alice, bob), SetClock(), asyncio.Event()
    settings: dict[str, Any] = {"coordinator": {}, "metadata": {"capabilities": "tools"}, "clock": clock}
    async with make_gateway(keys_file=keys, keys_poll_seconds=POLL, script=(*ANSWER[:1], never), **settings) as stand:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        streams = {}
        for person in (alice, bob):
            run = await stand.http.post(
                f"{stand.url}/v1/runs", json={"model": "tiny", "goal": "x"}, headers=person.headers
            )
            events = f"{stand.url}/v1/runs/{(await run.json())['id']}/events"
            streams[person.tenant] = [
                await stand.http.post(f"{stand.url}/v1/chat/completions", json=body, headers=person.headers),
                await stand.http.get(events, headers=person.headers),
            ]
        assert [stream.status for held in streams.values() for stream in held] == [200] * 4
        match end:
            case "revoked":
                write_keys(keys, Person("acme", key=alice.key, fields={"disabled": True}), bob)
            case "gone":
                write_keys(keys, bob)
            case "expired":
                clock.passed += 3601
            case _:
                write_keys(keys, alice, bob, TenantEntry(tenant="acme", suspended=True))
        async with asyncio.timeout(10):
            for stream in streams[alice.tenant]:
                with pytest.raises(aiohttp.ClientError):
                    await stream.read()
        (record,) = [event for event in await terminals(stand, 1) if "accepted" not in event.type]
        assert record.type == "dev.moontide.request.cancelled"
        for stream in streams[bob.tenant]:
            assert not stream.content.at_eof()
            stream.close()


async def terminals(stand: Any, count: int) -> list[Any]:
    await until(lambda: sum("accepted" not in event.type for event in stand.events()) >= count)
    return stand.events()


@pytest.mark.parametrize("broken", ["{", "# nothing\n", None])
async def test_a_broken_file_changes_nothing_and_is_said_once(
    make_gateway: Any, tmp_path: Path, broken: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    alice, bob = Person("acme"), Person("other")
    keys = write_keys(tmp_path / "keys", alice)

    def complaints() -> list[logging.LogRecord]:
        return [record for record in caplog.records if "keys file not taken" in record.getMessage()]

    async with make_gateway(keys_file=keys, keys_poll_seconds=POLL) as stand:
        if broken is None:
            keys.unlink()
        else:
            (tmp_path / "broken").write_text(broken)
            (tmp_path / "broken").replace(keys)  # whole: an empty file in between would be a state of its own
        await until(lambda: complaints() != [])
        assert await status(stand, alice) == (200, "")
        await asyncio.sleep(POLL * 10)
        assert len(complaints()) == 1
        write_keys(keys, bob)
        await becomes(stand, bob, (200, ""))
        await becomes(stand, alice, (401, "incorrect_api_key"))


async def test_a_change_within_a_tick_of_the_clock_is_taken(tmp_path: Path) -> None:
    """Same size, same time, same inode: as on a file system that rounds."""
    alice, bob = Person("acme"), Person("acme")
    keys = write_keys(tmp_path / "keys", alice)
    taken: list[Any] = []
    watch = KeysWatch(keys, SystemClock(), read(keys), taken.append)
    await watch.look()
    before = keys.stat()
    keys.write_bytes(write_keys(tmp_path / "other", bob).read_bytes())
    os.utime(keys, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (keys.stat().st_mtime_ns, keys.stat().st_size) == (before.st_mtime_ns, before.st_size)
    await watch.look()
    assert [found.keys[0].hash for found in taken] == [bob.entry.hash]


async def test_an_unchanged_file_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = write_keys(tmp_path / "keys", Person("acme"))
    watch = KeysWatch(keys, SystemClock(), read(keys), lambda file: None)
    os.utime(keys, (1, 1))
    await watch.look()
    monkeypatch.setattr(Path, "open", None)
    await watch.look()


def test_expiry_counts_to_the_second(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    late, early = (Person("acme", n, fields={"expires": now + timedelta(hours=n)}) for n in (1, -1))
    keys = Keys.load(write_keys(tmp_path / "keys", late, early))
    assert keys.principal(f"bearer {late.key}").key_id == late.key_id
    with pytest.raises(Unauthorized) as caught:
        keys.principal(f"Bearer {early.key}")
    assert caught.value.code == "expired_api_key"


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic x", "Bearer \udcff", "Bearer mt-é", "x" * 5000])
def test_whatever_a_header_holds_is_a_401(tmp_path: Path, value: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        Keys.load(write_keys(tmp_path / "keys", Person("acme"))).principal(value)
    assert caught.value.status == 401


async def test_a_key_is_seen_nowhere(make_gateway: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Good, wrong, revoked and plain ones: not in answers, logs, messages, traces, or anything stored."""
    caplog.set_level(logging.DEBUG)
    good, revoked, wrong = Person("acme"), Person("acme", 2, fields={"disabled": True}), Person("acme", 3)
    plain = Person("plain", key="PLAIN-CANARY-0123456789")
    secrets = [person.key.encode() for person in (good, revoked, wrong, plain)]
    (tmp_path / "secret").mkdir()
    keys = write_keys(tmp_path / "secret" / "keys", good, revoked)
    keys.write_bytes(keys.read_bytes() + b"\n" + plain.key.encode())
    broker, seen = FakeBroker(seed=1), bytearray()
    published = broker.publish
    broker.publish = lambda subject, data: (seen.extend(subject.encode() + data), published(subject, data))[1]  # type: ignore[method-assign]
    settings: dict[str, Any] = {"keys_file": keys, "coordinator": {}, "models_max_age_seconds": 0.0}
    async with recording(broker, tmp_path), make_gateway(broker=broker, **settings) as stand:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
        for person in (good, revoked, wrong, plain):
            for method, path, json in (
                ("POST", "/v1/chat/completions", body),
                ("POST", "/v1/chat/completions", body | {"stream": True}),
                ("POST", "/v1/chat/completions", {"messages": 1}),
                ("POST", "/v1/runs", {"model": "tiny", "goal": "x"}),
                ("GET", "/v1/runs", None),
                ("GET", "/v1/usage", None),
                ("GET", "/v1/traces/none", None),
                ("GET", "/nowhere", None),
            ):
                async with stand.http.request(method, stand.url + path, json=json, headers=person.headers) as response:
                    seen += str(response.headers).encode() + await response.read()
        stand.broker.services.append(None)  # an error of ours, with its traceback in the log
        async with stand.http.get(f"{stand.url}/v1/models", headers=good.headers) as response:
            seen += await response.read()
            assert response.status == 500
        keys.write_bytes(b"{" + good.key.encode())
        await until(lambda: "keys file not taken" in caplog.text, 20)
    stored = b"".join(path.read_bytes() for path in files_in(tmp_path) if path.parent.name != "secret")
    logged = "".join(str(record.__dict__) for record in caplog.records) + caplog.text
    assert len(seen) > 10_000
    assert len(stored) > 1000
    for secret in secrets:
        for place in (bytes(seen), stored, logged.encode()):
            assert secret not in place
            assert secret[3:20] not in place


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
