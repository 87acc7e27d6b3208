"""A question as a request for the gateway, and asking it until it is answered.

Input: what the person asked for. Output: the answer, or the error that remains. A lost connection and a refusal that
may pass are tried again within bounds: the same seed gives the same answer, and what was heard is not told twice.
"""

import argparse
import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from schemas.media import MediaKind
from services.cli.answer import Answer
from services.cli.client import GatewayClient
from shared.errors import MoontideError

MAX_ATTEMPTS = 6
MAX_PAUSE_SECONDS = 10.0
UPLOAD_PURPOSE = {"image": "image", "video": "video"}


@dataclass(frozen=True)
class Options:
    """How to answer. None means: what the model recommends. The seed is always sent, so that a retry can follow."""

    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    thinking: bool = True
    seed: int = field(default_factory=lambda: secrets.randbelow(2**31))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="model to ask (default: the first one served)")
    parser.add_argument("--max-tokens", type=positive, metavar="N", help="longest answer, reasoning included")
    parser.add_argument("--temperature", type=float, metavar="T", help="0 always takes the likeliest token")
    parser.add_argument("--seed", type=int, metavar="N", help="same seed, same answer (default: random)")
    parser.add_argument("--no-thinking", action="store_true", help="answer without reasoning first")


def options_of(arguments: argparse.Namespace) -> Options:
    given = {"seed": arguments.seed} if arguments.seed is not None else {}
    return Options(
        model=arguments.model,
        max_tokens=arguments.max_tokens,
        temperature=arguments.temperature,
        thinking=not arguments.no_thinking,
        **given,
    )


def positive(text: str) -> int:
    """An argument that counts something. Raises ValueError, which argparse turns into words."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def media_part(kind: MediaKind, file_id: str) -> dict[str, Any]:
    return {"type": f"{kind}_url", f"{kind}_url": {"url": f"ms://{file_id}"}}


def request(options: Options, model: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The body of `POST /v1/chat/completions`."""
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": options.seed,
    }
    if options.max_tokens is not None:
        body["max_tokens"] = options.max_tokens
    if options.temperature is not None:
        body["temperature"] = options.temperature
    if not options.thinking:
        body["thinking"] = {"type": "disabled"}
    return body


class Listener(Protocol):
    def hear(self, answer: Answer) -> None:
        """Called as the answer grows; it starts from nothing again when an attempt failed."""
        ...


async def ask(
    client: GatewayClient,
    make_request: Callable[[], Awaitable[dict[str, Any]]],
    listener: Listener,
    report: Callable[[str], None],
) -> Answer:
    """``make_request`` is asked for every attempt, since it may have to upload again. Raises MoontideError."""
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            return await _attempt(client, await make_request(), listener)
        except MoontideError as error:
            if not error.retryable or attempt == MAX_ATTEMPTS:
                raise
            pause = pause_seconds(attempt, error.retry_after_seconds)
            report(f"{error.message}; trying again in {pause:.1f} s")
            await asyncio.sleep(pause)
    raise AssertionError("unreachable")


async def _attempt(client: GatewayClient, body: dict[str, Any], listener: Listener) -> Answer:
    answer = Answer()
    async for chunk in client.chat(body):
        answer.add(chunk)
        listener.hear(answer)
    return answer


def pause_seconds(attempt: int, retry_after_seconds: float | None) -> float:
    """What the server asked for, else a growing pause; bounded."""
    wanted = 0.5 * 2.0 ** (attempt - 1) if retry_after_seconds is None else retry_after_seconds
    return min(MAX_PAUSE_SECONDS, wanted)
