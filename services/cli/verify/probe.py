"""The HTTP edge of verify: makes requests of one endpoint and remembers each as an ``Exchange``.

Input: bodies. Output: replies, or a verdict. Everything is bounded: a request in time and bytes, a refusal for load in
retries. It must not judge more than whether an answer came.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import aiohttp

from services.cli.verify import reply
from services.cli.verify.exchange import Event, Exchange, Wish
from services.cli.verify.judgement import Refused, Verdict, accepted
from services.cli.verify.key import Key
from services.cli.verify.reply import Reply

REQUEST_SECONDS = 120.0
CONNECT_SECONDS = 10.0
BODY_MAX_BYTES = 16 * 1024 * 1024
BUSY_RETRIES = 3
BUSY_MAX_SECONDS = 10.0
CHAT = "/chat/completions"
SAMPLINGS: tuple[dict[str, Any], ...] = ({"temperature": 0, "seed": 7}, {"temperature": 0}, {})
LIMITS = ("max_tokens", "max_completion_tokens")

T = TypeVar("T")
U = TypeVar("U")


@dataclass
class Dialect:
    """How this endpoint wants to be asked for a repeatable answer of bounded length."""

    sampling: dict[str, Any] = field(default_factory=lambda: SAMPLINGS[0])
    limit: str = LIMITS[0]


@dataclass(frozen=True)
class Target:
    url: str
    """Ends with the version, like ``http://127.0.0.1:8000/v1``."""
    model: str = ""
    key: Key = field(default_factory=Key, repr=False)
    concurrency: tuple[int, ...] = (1, 8, 64)
    extra: dict[str, Any] = field(default_factory=dict)
    """Fields of every chat body."""
    random_weights: bool = False
    """What the model list says of the model: nothing that it says means anything."""


class Probe:
    def __init__(self, session: aiohttp.ClientSession, target: Target) -> None:
        self._session = session
        self.target = target
        self.dialect = Dialect()

    @classmethod
    @asynccontextmanager
    async def open(cls, target: Target) -> "AsyncIterator[Probe]":
        """Connected only when something is asked."""
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
        connector = aiohttp.TCPConnector(limit=2 * max(target.concurrency))
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            yield cls(session, target)

    async def settle(self) -> None:
        """Find the dialect: the first that is not refused; the usual one when all are."""
        for sampling in SAMPLINGS:
            for limit in LIMITS:
                self.dialect = Dialect(sampling, limit)
                try:
                    accepted(await self.exchange(Wish("POST", CHAT, self.body("Say hello.", limit=1))))
                    return
                except Refused:
                    continue
                except Verdict:
                    break
        self.dialect = Dialect()

    def body(self, asked: str | list[dict[str, Any]], *, limit: int = 64, **fields: Any) -> dict[str, Any]:
        """A chat body; ``asked``: one question, or all messages."""
        messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
        asking = {"model": self.target.model, "messages": messages, self.dialect.limit: limit}
        return {**asking, **self.dialect.sampling, **self.target.extra, **fields}

    async def whole(self, body: dict[str, Any], *, at_once: int = 1) -> Reply:
        """The unstreamed answer. Raises Refused or Defect."""
        return reply.whole(await self.exchange(Wish("POST", CHAT, body, at_once=at_once)))

    async def streamed(self, body: dict[str, Any], *, at_once: int = 1, usage: bool = False) -> Reply:
        """The answer to the same body as a stream. Raises Refused or Defect."""
        options = {"stream_options": {"include_usage": True}} if usage else {}
        body = {**body, "stream": True, **options}
        return reply.gathered(await self.exchange(Wish("POST", CHAT, body, streams=True, at_once=at_once)))

    async def each(self, ask: Callable[[T], Awaitable[U]], items: Iterable[T], at_once: int) -> list[U]:
        """``ask`` of every item, so many at once, in order. The first verdict ends all."""
        slots = asyncio.Semaphore(at_once)

        async def one(item: T) -> U:
            async with slots:
                return await ask(item)

        tasks = [asyncio.ensure_future(one(item)) for item in items]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def exchange(self, wish: Wish) -> Exchange:
        """One request, made again after a 429 as the endpoint asks, within bounds. Never raises for what it met."""
        done = Exchange(wish.method, self._url(wish))
        for _ in range(1 + BUSY_RETRIES):
            done, wait_seconds = await self._once(wish)
            if done.status != 429:
                break
            await asyncio.sleep(wait_seconds)
        return done

    async def _once(self, wish: Wish) -> tuple[Exchange, float]:
        """What came, and the pause that a 429 asks for."""
        raw = wish.body is None or isinstance(wish.body, bytes)
        data = wish.body if raw else ascii_json(wish.body)
        sent = Exchange(wish.method, self._url(wish), data, wish.bearer, at_once=wish.at_once)
        began = time.monotonic()
        try:
            async with self._session.request(
                wish.method, sent.url, data=data, headers=self._headers(wish), allow_redirects=False
            ) as response:
                sent = replace(sent, status=response.status, content_type=response.content_type)
                sent = await _received(sent, response, wish, began)
                return replace(sent, seconds=time.monotonic() - began), _pause(response)
        except TimeoutError:
            failure = f"no whole answer within {REQUEST_SECONDS:g} s"
        except (aiohttp.ClientError, ValueError, OSError) as error:
            failure = f"the connection failed: {type(error).__name__}: {error}"
        return replace(sent, failure=failure, seconds=time.monotonic() - began), 0.0

    def _url(self, wish: Wish) -> str:
        return self.target.url + wish.path

    def _headers(self, wish: Wish) -> dict[str, str]:
        bearer = self.target.key.bearer() if wish.bearer is None else wish.bearer
        headers = {"Content-Type": "application/json"} if wish.body is not None else {}
        return {**headers, "Authorization": f"Bearer {bearer}"} if bearer else headers


async def _received(sent: Exchange, response: aiohttp.ClientResponse, wish: Wish, began: float) -> Exchange:
    """``sent`` with the body. What came before a break is kept."""
    data, events, line_start, event = bytearray(), [], 0, []
    failure = ""
    try:
        async for piece in response.content.iter_any():
            data += piece
            if len(data) > BODY_MAX_BYTES:
                failure = f"the answer is longer than {BODY_MAX_BYTES} bytes"
                break
            while wish.streams and (line_end := data.find(b"\n", line_start)) >= 0:
                line = bytes(data[line_start:line_end]).rstrip(b"\r")
                line_start = line_end + 1
                if line.startswith(b"data:"):
                    event.append(line[5:].removeprefix(b" "))
                elif not line and event:
                    events.append(Event(time.monotonic() - began, b"\n".join(event)))
                    event = []
    except (aiohttp.ClientError, OSError) as error:
        failure = f"the answer broke off after {len(data)} bytes: {type(error).__name__}"
    return replace(sent, data=bytes(data), events=tuple(events), failure=failure)


def _pause(response: aiohttp.ClientResponse) -> float:
    try:
        return min(max(float(response.headers.get("Retry-After", "1")), 0.0), BUSY_MAX_SECONDS)
    except ValueError:
        return 1.0


def ascii_json(value: Any) -> bytes:
    """JSON that survives every shell and terminal."""
    return json.dumps(value, ensure_ascii=True).encode()
