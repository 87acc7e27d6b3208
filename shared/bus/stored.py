"""Reading what streams keep, without a reader of their own: a subject from a sequence on, last messages, subjects.

In: a stream and what is wanted of it. Out: ``StoredMessage``s. Batches come by JetStream's direct get (server 2.11 and
newer, streams declared for it), which answers with many messages and an end mark. Knows nothing of what they mean.
"""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NoStreamResponseError, NotFoundError

from shared.bus import failures, streams
from shared.bus.failures import translated
from shared.bus.interface import StoredMessage
from shared.bus.link import Link

BATCH_BYTES = 4 * 1024 * 1024
MAX_BATCH = 1000
"""Of the server."""
LAST_SUBJECTS = 256
"""Asked for at once; the server refuses more than 1,024."""

_DIRECT = "$JS.API.DIRECT.GET"
_END, _NONE, _NO_STREAM = "204", "404", "503"


async def read(link: Link, stream: str, subject: str, after_sequence: int, limit: int) -> list[StoredMessage]:
    request = {
        "seq": after_sequence + 1,
        "next_by_subj": subject,
        "batch": min(limit, MAX_BATCH),
        "max_bytes": BATCH_BYTES,
    }
    return await _batch(link, stream, request)


async def read_last(link: Link, stream: str, subjects: Sequence[str]) -> list[StoredMessage]:
    found: list[StoredMessage] = []
    for start in range(0, len(subjects), LAST_SUBJECTS):
        wanted = list(subjects[start : start + LAST_SUBJECTS])
        while wanted:
            batch = await _batch(link, stream, {"multi_last": wanted, "batch": len(wanted), "max_bytes": BATCH_BYTES})
            seen = {message.subject for message in batch}
            # A batch may end early at its bound of bytes; what has no message never comes.
            wanted = [subject for subject in wanted if subject not in seen] if batch else []
            found += batch
    return found


async def last(requests: JetStreamContext, stream: str, subject: str) -> StoredMessage | None:
    """From the stream's leader. Raises nats-py's errors."""
    try:
        return _from_raw(await requests.get_last_msg(stream, subject))
    except NotFoundError:
        await requests.stream_info(stream)  # is it the stream that is missing?
        return None


async def subjects(link: Link, stream: str, pattern: str) -> dict[str, int]:
    found: dict[str, int] = {}
    while True:
        request = json.dumps({"subjects_filter": pattern, "offset": len(found)}).encode()
        with translated():
            page = await streams.persistently(lambda: _stream_info(link, stream, request))  # noqa: B023 - at once
        new = page["state"].get("subjects") or {}
        found |= new
        if not new or len(found) >= page.get("total", 0):
            return found


async def remove(link: Link, stream: str, sequence: int) -> bool:
    with translated():
        try:
            return await link.streams.delete_msg(stream, sequence)
        except APIError as error:
            if not failures.is_missing(error):
                raise
            return False


async def _stream_info(link: Link, stream: str, request: bytes) -> dict[str, Any]:
    return await link.streams._api_request(f"$JS.API.STREAM.INFO.{stream}", request, timeout=streams.STORE_SECONDS)


async def _batch(link: Link, stream: str, request: dict[str, Any]) -> list[StoredMessage]:
    await link.send_outbox()
    with translated():
        return await streams.persistently(lambda: _asked(link, stream, json.dumps(request).encode()))


async def _asked(link: Link, stream: str, request: bytes) -> list[StoredMessage]:
    """Raises nats' TimeoutError when the batch did not come whole."""
    messages: list[Msg] = []
    ended = asyncio.Event()

    async def take(message: Msg) -> None:
        messages.append(message)
        if _status(message):
            ended.set()

    inbox = link.client.new_inbox()
    subscription = await link.listen(inbox, take)
    try:
        await link.client.publish(f"{_DIRECT}.{stream}", request, reply=inbox)
        async with asyncio.timeout(streams.STORE_SECONDS):
            await ended.wait()
    except TimeoutError as error:
        raise NatsTimeout from error
    finally:
        await link.client.end(subscription)
    return _checked(messages[:-1], messages[-1])


def _checked(messages: list[Msg], end: Msg) -> list[StoredMessage]:
    """The batch, if it is whole: each message names the one before it, and the end mark the last."""
    status = _status(end)
    if status == _NONE and not messages:
        return []
    if status == _NO_STREAM:
        raise NoStreamResponseError
    if status != _END:
        raise APIError.from_msg(end)
    for before, after in pairwise([*messages, end]):
        if _header(before, "Nats-Sequence") != _header(after, "Nats-Last-Sequence"):
            raise NatsTimeout
    return [_from_message(message) for message in messages]


def _status(message: Msg) -> str:
    return "" if message.data else (message.headers or {}).get("Status", "")


def _header(message: Msg, name: str) -> str:
    return (message.headers or {}).get(name, "")


def _from_message(message: Msg) -> StoredMessage:
    return StoredMessage(
        subject=_header(message, "Nats-Subject"),
        sequence=int(_header(message, "Nats-Sequence")),
        data=message.data,
        message_id=_header(message, api.Header.MSG_ID.value),
        time_unix_seconds=_unix_seconds(_header(message, "Nats-Time-Stamp")),
    )


def _from_raw(message: api.RawStreamMsg) -> StoredMessage:
    return StoredMessage(
        subject=message.subject or "",
        sequence=message.seq or 0,
        data=message.data or b"",
        message_id=(message.headers or {}).get(api.Header.MSG_ID.value, ""),
        time_unix_seconds=message.time.timestamp() if message.time else 0.0,
    )


def _unix_seconds(stamp: str) -> float:
    """Of RFC 3339 with nanoseconds, in UTC."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp() + (float(f"0.{fraction}") if fraction else 0.0)
