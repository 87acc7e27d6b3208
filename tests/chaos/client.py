"""Whoever wants runs: submits them, answers what they ask, and waits for their end, across every death.

Input: a bus. Output: summaries from the coordinators' queries, each asked again until somebody answers. Must not know
who is killed.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import msgspec

from schemas import names
from schemas.blobs import BlobRef
from schemas.chat import Message, TextPart
from schemas.codec import decode, encode
from schemas.failure import Failure
from schemas.request import Principal, RequestContext
from schemas.runs import (
    CommandStored,
    DecideTool,
    RunCommand,
    RunCommandBody,
    RunQuery,
    RunSpec,
    RunSubmitted,
    RunSummary,
)
from shared.blobs.store import BlobStore
from shared.bus.interface import Bus
from shared.errors import MoontideError, from_failure
from shared.ledger.machine import ENDED

T = TypeVar("T")

REQUEST_SECONDS = 5.0
PATIENCE_SECONDS = 90.0
POLL_SECONDS = 0.25
PASSING = frozenset(("run.unknown_tool",))
"""Refusals that pass: a tools process that was just killed has no MCP server yet."""
PRINCIPAL = Principal(tenant="chaos", key_id="chaos")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def new_run_id() -> str:
    """Ordered by time, as run ids are."""
    stamp, text = time.time_ns() // 1_000_000, ""
    for _ in range(10):
        text = _ALPHABET[stamp % 32] + text
        stamp //= 32
    return "run-" + text + "".join(secrets.choice(_ALPHABET) for _ in range(16))


@dataclass
class Client:
    bus: Bus
    blobs: BlobStore

    async def message(self, text: str, role: Any = "user") -> BlobRef:
        return await self.blobs.put(encode(Message(role=role, content=(TextPart(text=text),))))

    async def submit(self, spec: RunSpec, run_id: str = "", *, seconds: float = 3600.0) -> RunSummary:
        """Accepted when this returns. Sent again under the same id when nobody says so."""
        run_id = run_id or new_run_id()
        context = RequestContext(
            request_id=run_id, principal=PRINCIPAL, priority="batch", deadline_unix_seconds=time.time() + seconds
        )
        asked = RunSubmitted(run_id=run_id, context=context, spec=spec)
        return await self._ask(names.SUBJECT_RUN_SUBMIT, asked, RunSummary)

    async def get(self, run_id: str) -> RunSummary:
        return await self._ask(names.SUBJECT_RUN_GET, RunQuery(run_id=run_id, principal=PRINCIPAL), RunSummary)

    async def command(self, run_id: str, body: RunCommandBody, command_id: str = "") -> CommandStored:
        command = RunCommand(
            command_id=command_id or secrets.token_hex(8), run_id=run_id, principal=PRINCIPAL, body=body
        )
        return await self._ask(names.SUBJECT_RUN_COMMAND, command, CommandStored)

    async def finished(self, run_id: str, seconds: float) -> RunSummary:
        """The summary of its end; what waits for an approval is approved. Raises TimeoutError."""
        approved = set[str]()
        async with asyncio.timeout(seconds):
            while (summary := await self.get(run_id)).status not in ENDED:
                for wanted in summary.approvals:
                    if wanted.call_id not in approved:
                        body = DecideTool(call_id=wanted.call_id, approved=True, note="go on")
                        await self.command(run_id, body, f"approve-{wanted.call_id}")
                        approved.add(wanted.call_id)
                await asyncio.sleep(POLL_SECONDS)
        return summary

    async def _ask(self, subject: str, body: msgspec.Struct, kind: type[T]) -> T:
        """Raises what is refused for good; TimeoutError when nobody answers for long."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    reply = decode(
                        await self.bus.request(subject, encode(body), REQUEST_SECONDS), cast(Any, kind | Failure)
                    )
                    if isinstance(reply, Failure):
                        raise from_failure(reply)
                    return reply
                except MoontideError as error:
                    if not error.retryable and error.code not in PASSING:
                        raise
                    await asyncio.sleep(error.retry_after_seconds or 0.2)
