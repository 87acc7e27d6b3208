"""The HTTP client of durable runs: begun, shown, followed wherever the connection breaks, told things.

Input: plain values. Output: structs of what a gateway answers, or an error of ``shared.errors``. Knows nothing of
terminals and stacks.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec

from services.cli.client import GatewayClient, check, converted, decode, event_data
from shared.errors import BadInput, MoontideError, Unavailable

LOST_SECONDS = 60.0
"""How long a gateway may be gone before a follower gives up."""
PAUSE_SECONDS = 0.5
PATCH_MAX_BYTES = 16 * 1024 * 1024
ENDED = frozenset({"finished", "failed", "cancelled"})


class Fault(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class File(msgspec.Struct, frozen=True):
    name: str
    media_type: str
    size_bytes: int
    url: str


class Call(msgspec.Struct, frozen=True):
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str = ""
    reasoning_content: str = ""
    tool_calls: tuple[Call, ...] = ()
    truncated: bool = False


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Budget(msgspec.Struct, frozen=True):
    max_steps: int
    max_tokens: int | None = None
    max_seconds: float = 0.0
    max_cost_usd: float | None = None


class Approval(msgspec.Struct, frozen=True):
    call_id: str
    tool: str
    arguments: str = ""


class Run(msgspec.Struct, frozen=True):
    """As ``/v1/runs`` shows it."""

    id: str
    status: str
    model: str
    title: str
    created_at: float
    step: int = 0
    usage: Usage = Usage()
    cost_usd: float = 0.0
    waiting: Fault | None = None
    approvals: tuple[Approval, ...] = ()
    answer: Message | None = None
    error: Fault | None = None
    files: tuple[File, ...] = ()


class RunPage(msgspec.Struct, frozen=True):
    data: tuple[Run, ...]
    has_more: bool = False


class Event(msgspec.Struct, frozen=True):
    """One event; what its ``type`` does not have is empty."""

    type: str = ""
    """Empty: the stream broke, and ``error`` says why."""
    id: str = ""
    run_id: str = ""
    time_unix_seconds: float = 0.0
    step: int = 0
    attempt: int = 1
    message: Message | None = None
    messages: tuple[Message, ...] = ()
    usage: Usage | None = None
    budget: Budget | None = None
    cost_usd: float = 0.0
    seconds: float = 0.0
    call_id: str = ""
    tool: str = ""
    arguments: str = ""
    needs_approval: bool = False
    approved: bool = False
    note: str = ""
    author: str = ""
    strategy: str = ""
    owner: str = ""
    term: int = 0
    error: Fault | None = None
    possibly_repeated: bool = False
    outcome: str = ""
    files: tuple[File, ...] = ()
    reasoning: str = ""
    content: str = ""
    reasoning_start: int = 0
    content_start: int = 0
    progress: str = ""


class RunClient(GatewayClient):
    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, url: str) -> "AsyncIterator[RunClient]":
        async with cls.open(url) as client:
            assert isinstance(client, cls)
            yield client

    async def start(self, body: dict[str, Any], key: str) -> bytes:
        """A run as JSON. Sent twice with one ``key``: one run."""
        return await self._post("/v1/runs", body, key)

    async def fork(self, run_id: str, body: dict[str, Any], key: str) -> bytes:
        return await self._post(f"/v1/runs/{run_id}/fork", body, key)

    async def command(self, run_id: str, what: str, body: dict[str, Any], key: str) -> bytes:
        """``what``: messages, stop, pause, resume, approvals/CALL."""
        return await self._post(f"/v1/runs/{run_id}/{what}", body, key)

    async def run(self, run_id: str) -> Run:
        """Raises NotFound."""
        return decode(await self.run_json(run_id), Run)

    async def run_json(self, run_id: str) -> bytes:
        return await self._get(f"/v1/runs/{run_id}")

    async def run_object(self, run_id: str) -> dict[str, Any]:
        """As the gateway writes it, also what this client does not know."""
        return decode(await self.run_json(run_id), dict[str, Any])

    async def runs_json(self, query: str) -> bytes:
        return await self._get(f"/v1/runs?{query}")

    async def event(self, run_id: str, event_id: str) -> Event:
        """One event with all of its text."""
        return decode(await self._get(f"/v1/runs/{run_id}/events/{event_id}"), Event)

    async def text(self, file: File) -> str:
        """A small file, as text. Raises BadInput when it is not small."""
        if file.size_bytes > PATCH_MAX_BYTES:
            raise BadInput("run.file_too_large", f"{file.name} is too large to be shown", param=file.name)
        return (await self._get(file.url)).decode(errors="replace")

    async def follow(self, run_id: str, after: str = "") -> AsyncIterator[tuple[Event, bytes]]:
        """(event, its JSON), each that has a place once, until the run has ended. A lost connection is taken up where
        it broke; Unavailable when that fails for ``LOST_SECONDS``."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + LOST_SECONDS
        while True:
            try:
                async for event, data in self._stream(run_id, after):
                    give_up = loop.time() + LOST_SECONDS
                    after = event.id or after
                    yield event, data
                    if event.type == "run.ended":
                        return
                if decode(await self.run_json(run_id), Run).status in ENDED:
                    return
            except MoontideError as error:
                if not error.retryable or loop.time() > give_up:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)

    async def _stream(self, run_id: str, after: str) -> AsyncIterator[tuple[Event, bytes]]:
        headers = {"Last-Event-ID": after} if after else {}
        with converted(self.url):
            async with self._session.get(f"{self.url}/v1/runs/{run_id}/events", headers=headers) as response:
                await check(response)
                if response.status == 204:
                    return
                async for data in event_data(response.content):
                    event = decode(data, Event)
                    if not event.type:
                        raise _broken(event)
                    yield event, data

    async def _post(self, path: str, body: dict[str, Any], key: str) -> bytes:
        timeout = aiohttp.ClientTimeout(total=60.0)
        headers = {"Idempotency-Key": key}
        with converted(self.url):
            async with self._session.post(f"{self.url}{path}", json=body, headers=headers, timeout=timeout) as response:
                await check(response)
                return await response.read()


def read_run(data: bytes) -> Run:
    return decode(data, Run)


def _broken(event: Event) -> Unavailable:
    error = event.error or Fault()
    return Unavailable(error.code or "gateway.lost", error.message or "the stream of events broke")
