"""The wire of admission is NATS micro's: its own message types read the answers."""

import asyncio
import json
import secrets

import pytest
from nats.micro.service import ServiceInfo, ServicePing, ServiceStats

from shared.bus.broker import Broker
from shared.bus.connection import connect
from shared.errors import Unavailable


async def test_tools_that_speak_micro_find_ask_and_measure_a_service(broker: Broker) -> None:
    word = f"t{secrets.token_hex(4)}"

    async def half(data: bytes) -> bytes:
        return data[: len(data) // 2]

    async with connect(broker.config, "a") as bus, connect(broker.config, "b") as asking:
        offered = bus.offer(word, {f"{word}.half": half}, version="1.2.3", metadata={"a": "b"})
        async with offered as instance:
            assert await asking.request(f"{word}.half", b"1234", 2.0) == b"12"
            answers = {}
            for verb in ("PING", "INFO", "STATS"):
                for subject in (f"$SRV.{verb}.{word}", f"$SRV.{verb}.{word}.{instance}"):
                    answers[verb] = json.loads(await asking.request(subject, b"", 2.0))
            assert ServicePing.from_dict(answers["PING"]).id == instance
            info = ServiceInfo.from_dict(answers["INFO"])
            assert (info.name, info.version, info.metadata) == (word, "1.2.3", {"a": "b"})
            assert [(end.subject, end.queue_group) for end in info.endpoints] == [(f"{word}.half", "q")]
            stats = ServiceStats.from_dict(answers["STATS"])
            assert [(end.num_requests, end.num_errors) for end in stats.endpoints] == [(1, 0)]
            assert {answer["type"] for answer in answers.values()} == {
                f"io.nats.micro.v1.{verb}_response" for verb in ("ping", "info", "stats")
            }


async def test_requests_that_have_arrived_are_answered_before_a_service_leaves(broker: Broker) -> None:
    word = f"t{secrets.token_hex(4)}"
    arrived = asyncio.Event()

    async def slowly(data: bytes) -> bytes:
        arrived.set()
        await asyncio.sleep(0.02)
        return data

    async with connect(broker.config, "a") as bus, connect(broker.config, "b") as asking:
        async with bus.offer(word, {f"{word}.slow": slowly}, version="1.0.0", metadata={}):
            requests = [asyncio.create_task(asking.request(f"{word}.slow", b"%d" % n, 5.0)) for n in range(10)]
            await asking.flush()
            await arrived.wait()
        assert await asyncio.gather(*requests) == [b"%d" % number for number in range(10)]
        with pytest.raises(Unavailable) as nobody:
            await asking.request(f"{word}.slow", b"", 2.0)
        assert nobody.value.code == "bus.no_responder"
