"""``python -m tests.measure.pacer``: an OpenAI-compatible endpoint that costs next to nothing and keeps time.

Input: requests over HTTP; ``max_tokens`` says how many tokens. Output: the first token at once and each further one
when its time has come, reckoned from the first, so that a late one delays no other. Prints its URL, then serves until
its input ends. Every token holds ``MARK`` once: who counts marks counts tokens, however they were put together.
"""

import argparse
import asyncio
import json
import sys

MARK = b"~"
HEADER_MAX_BYTES = 64 * 1024
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n"
_TOKEN = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"pacer",'
    b'"choices":[{"index":0,"delta":{"content":" wor%s"},"finish_reason":null}]}\n\n'
) % MARK
_END = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"pacer",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"pacer","choices":[],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":%d,"total_tokens":%d}}\n\n'
    b"data: [DONE]\n\n"
)
_MODELS = b'{"object":"list","data":[{"id":"pacer","object":"model","owned_by":"pacer","max_model_len":32768}]}'


def chunk(data: bytes) -> bytes:
    """One piece of a body in chunked transfer coding."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class Pacer(asyncio.Protocol):
    """One connection, one answer at a time."""

    def __init__(self, tokens_per_second: float) -> None:
        self._seconds = 1 / tokens_per_second
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._next: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next is not None:
            self._next.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        if not ended:
            assert len(head) < HEADER_MAX_BYTES
            return
        length = _content_length(head)
        if len(body) >= length:
            self._received = body[length:]
            self._answer(head, body[:length])

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET "):
            start = _HEAD % b"application/json" + b"Content-Length: %d\r\n\r\n" % len(_MODELS)
            self._transport.write(start + _MODELS)
            return
        tokens = json.loads(body)["max_tokens"]
        self._transport.write(_HEAD % b"text/event-stream" + b"Transfer-Encoding: chunked\r\n\r\n")
        self._say(0, tokens, self._loop.time())

    def _say(self, number: int, tokens: int, started: float) -> None:
        if number == tokens:
            self._transport.write(chunk(_END % (tokens, tokens + 1)) + chunk(b""))
            return
        self._transport.write(chunk(_TOKEN))
        due = started + (number + 1) * self._seconds
        self._next = self._loop.call_at(due, self._say, number + 1, tokens, started)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def serve(tokens_per_second: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Pacer(tokens_per_second), "127.0.0.1", 0, backlog=256)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens-per-second", type=float, default=50.0)
    asyncio.run(serve(parser.parse_args().tokens_per_second))
