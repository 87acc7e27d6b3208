"""``python -m tests.measure.load PLAN``: streams read as cheaply as Python can, and timed.

Input: a ``Plan`` as JSON. Output: one JSON object per round and URL: seconds to each first token, number of tokens,
seconds from the first request to the last byte. The rounds go through the URLs in turn, so that what else the machine
does hits all of them. Tokens are the marks of ``pacer``. Exit code 1 when an answer is not whole.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tests.measure.pacer import MARK

READ_BYTES = 65536
ANSWER_SECONDS = 120.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    urls: dict[str, str]
    """Base URL by name."""
    model: str
    streams: int
    tokens: int
    """Of each answer."""
    rounds: int


@dataclass(frozen=True)
class Round:
    """``streams`` requests begun at once."""

    name: str
    first_token_seconds: list[float]
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Line:
    """A connection that stays open, as those of clients do."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    request: bytes

    async def ask(self, tokens: int) -> float:
        """Seconds to the first token. Raises AssertionError when the answer has other than ``tokens``."""
        begun, first, seen, tail = time.perf_counter(), 0.0, 0, b""
        self.writer.write(self.request)
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            data = await self.reader.read(READ_BYTES)
            assert data, f"the answer broke off: {tail!r}"
            count = data.count(MARK)
            if count and not seen:
                first = time.perf_counter() - begun
            seen += count
            tail = (tail + data)[-512:]
        assert seen == tokens, f"{seen} tokens of {tokens}: {tail!r}"
        return first


@asynccontextmanager
async def line(url: str, model: str, tokens: int) -> AsyncIterator[Line]:
    where = urlsplit(url)
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": "Go on."}],
            "max_tokens": tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        f"POST {where.path}/chat/completions HTTP/1.1\r\nHost: {where.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        yield Line(reader, writer, head.encode() + body)
    finally:
        writer.close()
        await writer.wait_closed()


async def round_of(name: str, lines: list[Line], tokens: int) -> Round:
    begun = time.perf_counter()
    async with asyncio.timeout(ANSWER_SECONDS):
        firsts = await asyncio.gather(*(one.ask(tokens) for one in lines))
    return Round(name, firsts, tokens * len(lines), time.perf_counter() - begun)


async def carry_out(plan: Plan) -> AsyncIterator[Round]:
    async with _all_lines(plan) as lines:
        for _ in range(plan.rounds):
            for name in plan.urls:
                yield await round_of(name, lines[name], plan.tokens)


@asynccontextmanager
async def _all_lines(plan: Plan) -> AsyncIterator[dict[str, list[Line]]]:
    opened: list[Any] = []
    try:
        found: dict[str, list[Line]] = {name: [] for name in plan.urls}
        for name, url in plan.urls.items():
            for _ in range(plan.streams):
                opened.append(line(url, plan.model, plan.tokens))
                found[name].append(await opened[-1].__aenter__())
        yield found
    finally:
        for one in opened:
            await one.__aexit__(None, None, None)


async def main(plan: Plan) -> None:
    async for done in carry_out(plan):
        print(json.dumps(asdict(done)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Plan)))
