"""Entries of a ledger as the events that clients read: references become messages, text and URLs.

Input: ``NumberedEntry``. Output: the structs of ``run_event_body``, and the blob behind a file's URL. It must not know
HTTP, nor which events a reader has.
"""

import mimetypes
from collections.abc import Sequence
from functools import singledispatchmethod
from typing import Any
from urllib.parse import quote

from schemas import runs
from schemas.blobs import BlobRef
from schemas.chat import MediaPart
from schemas.runs import NumberedEntry, RunDelta, RunEvent
from schemas.tools import ToolFile
from services.gateway import run_event_body as body
from services.gateway.message_view import STREAM_CHARACTERS, WHOLE_CHARACTERS, Messages, Shown
from services.gateway.run_event_body import (
    DeltaBody,
    EventBody,
    FileView,
    budget_view,
    error_view,
    event_id,
    usage_view,
)
from shared.errors import Internal

BYTES = "application/octet-stream"


class EventViews:
    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    async def of(self, numbered: NumberedEntry, skip: int = 0) -> list[EventBody]:
        """The entry's events in order, without the first ``skip``, their texts cut to what a stream carries."""
        count = len(numbered.entry.events)
        return [await self.one(numbered, index, STREAM_CHARACTERS) for index in range(skip, count)]

    async def whole(self, numbered: NumberedEntry, index: int) -> EventBody:
        """One event with all of its text."""
        return await self.one(numbered, index, WHOLE_CHARACTERS)

    async def one(self, numbered: NumberedEntry, index: int, limit: int) -> EventBody:
        events = numbered.entry.events
        view = EventView(self._messages, numbered, event_id(numbered.sequence, index, len(events)), limit)
        return await view.of(events[index])

    async def files(self, numbered: NumberedEntry, index: int) -> list[ToolFile]:
        """What the event's ``files`` show, in their order."""
        event = numbered.entry.events[index]
        references = message_references(event)
        media: list[MediaPart] = []
        for reference in references:
            media += (await self._messages.shown(reference, "")).media
        return event_files(event) + [media_file(part) for part in media]


class EventView:
    """One event of one entry."""

    def __init__(self, messages: Messages, numbered: NumberedEntry, identifier: str, limit: int) -> None:
        self._messages = messages
        self._limit = limit
        self._head: dict[str, Any] = {
            "id": identifier,
            "run_id": numbered.entry.run_id,
            "time_unix_seconds": numbered.entry.time_unix_seconds,
        }

    @singledispatchmethod
    async def of(self, event: Any) -> EventBody:
        raise Internal("run.event", "an event of the run cannot be shown")

    @of.register
    async def _(self, event: runs.RunAccepted) -> EventBody:
        spec, origin = event.spec, event.origin
        shown = [await self._shown(reference, "user") for reference in spec.messages]
        return body.AcceptedBody(
            **self._head,
            kind=spec.kind,
            model=spec.model,
            title=spec.title,
            messages=tuple(one.view for one in shown),
            tools=spec.tools,
            approvals=spec.approvals,
            thinking=spec.thinking,
            budget=budget_view(spec.budget),
            context_strategy=spec.context_strategy,
            files=self._files(event, *shown),
            trace_id=trace_id(event.context.traceparent),
            forked_from=origin.run_id if origin is not None else None,
            fork_step=origin.step if origin is not None else None,
        )

    @of.register
    async def _(self, event: runs.LeaseTaken) -> EventBody:
        return body.LeaseBody(**self._head, owner=event.owner, term=event.term)

    @of.register
    async def _(self, event: runs.ModelAsked) -> EventBody:
        return body.AskedBody(
            **self._head,
            step=event.step,
            attempt=event.attempt,
            message_count=event.message_count,
            purpose=event.purpose,
        )

    @of.register
    async def _(self, event: runs.ModelAnswered) -> EventBody:
        shown = await self._shown(event.message, "assistant")
        return body.AnsweredBody(
            **self._head,
            step=event.step,
            message=shown.view,
            usage=usage_view(event.usage),
            finish_reason=event.finish_reason,
            cost_usd=event.cost_usd,
            seconds=event.seconds,
            tool_calls=event.tool_calls,
            system_fingerprint=event.system_fingerprint,
            files=self._files(event, shown),
        )

    @of.register
    async def _(self, event: runs.ModelFailed) -> EventBody:
        error = error_view(event.failure)
        return body.ModelFailedBody(**self._head, step=event.step, attempt=event.attempt, error=error)

    @of.register
    async def _(self, event: runs.ToolAsked) -> EventBody:
        arguments = await self._messages.arguments(event.arguments)
        return body.ToolAskedBody(
            **self._head,
            step=event.step,
            call_id=event.call_id,
            tool_call_id=event.tool_call_id,
            tool=event.tool,
            arguments=arguments[: self._limit],
            truncated=len(arguments) > self._limit,
            needs_approval=event.needs_approval,
        )

    @of.register
    async def _(self, event: runs.ToolDecided) -> EventBody:
        return body.ToolDecidedBody(
            **self._head,
            call_id=event.call_id,
            approved=event.approved,
            note=event.note,
            command_id=event.command_id,
        )

    @of.register
    async def _(self, event: runs.ToolAnswered) -> EventBody:
        shown = await self._shown(event.message, "tool")
        return body.ToolAnsweredBody(
            **self._head,
            step=event.step,
            call_id=event.call_id,
            message=shown.view,
            files=self._files(event, shown),
            error=error_view(event.failure) if event.failure is not None else None,
            possibly_repeated=event.possibly_repeated,
            seconds=event.seconds,
        )

    @of.register
    async def _(self, event: runs.MessageAdded) -> EventBody:
        shown = await self._shown(event.message, "user")
        return body.MessageAddedBody(
            **self._head,
            author=event.author,
            message=shown.view,
            command_id=event.command_id,
            files=self._files(event, shown),
        )

    @of.register
    async def _(self, event: runs.ContextReduced) -> EventBody:
        return body.ReducedBody(
            **self._head,
            strategy=event.strategy,
            through_step=event.through_step,
            summary=(await self._shown(event.summary, "user")).view if event.summary is not None else None,
            usage=usage_view(event.usage) if event.usage is not None else None,
            cost_usd=event.cost_usd,
        )

    @of.register
    async def _(self, event: runs.RunWaiting) -> EventBody:
        error = error_view(event.failure)
        return body.WaitingBody(**self._head, error=error, until_unix_seconds=event.until_unix_seconds)

    @of.register
    async def _(self, event: runs.RunPaused) -> EventBody:
        return body.PausedBody(**self._head, command_id=event.command_id)

    @of.register
    async def _(self, event: runs.RunResumed) -> EventBody:
        return body.ResumedBody(**self._head, command_id=event.command_id)

    @of.register
    async def _(self, event: runs.RunEnded) -> EventBody:
        return body.EndedBody(
            **self._head,
            outcome=event.outcome,
            answer=(await self._shown(event.answer, "assistant")).view if event.answer is not None else None,
            error=error_view(event.failure) if event.failure is not None else None,
            files=self._files(event),
            command_id=event.command_id,
        )

    async def _shown(self, reference: BlobRef, role: str) -> Shown:
        return await self._messages.shown(reference, role, self._limit)

    def _files(self, event: RunEvent, *shown: Shown) -> tuple[FileView, ...]:
        media = [media_file(part) for one in shown for part in one.media]
        return file_views(self._head["run_id"], self._head["id"], event_files(event) + media)


def event_files(event: RunEvent) -> list[ToolFile]:
    """What an event says of files itself, beside the media of its messages."""
    if isinstance(event, runs.RunAccepted):
        seeds = [
            ToolFile(name=seed.path, media_type=_guess(seed.path), content=seed.content) for seed in event.spec.files
        ]
        bundle = event.spec.repository
        return seeds + ([ToolFile(name="repository.bundle", media_type=BYTES, content=bundle)] if bundle else [])
    return list(event.files) if isinstance(event, runs.ToolAnswered | runs.RunEnded) else []


def message_references(event: RunEvent) -> Sequence[BlobRef]:
    """Of the messages whose media an event shows."""
    if isinstance(event, runs.RunAccepted):
        return event.spec.messages
    return (event.message,) if isinstance(event, runs.ModelAnswered | runs.ToolAnswered | runs.MessageAdded) else ()


def media_file(part: MediaPart) -> ToolFile:
    return ToolFile(name=part.name, media_type=_guess(part.name, f"{part.kind}/*"), content=part.source)


def file_views(run_id: str, identifier: str, files: Sequence[ToolFile]) -> tuple[FileView, ...]:
    base = f"/v1/runs/{run_id}/files/events/{identifier}"
    return tuple(
        FileView(
            name=file.name,
            media_type=file.media_type,
            size_bytes=file.content.size_bytes,
            url=f"{base}/{number}/{quote(file.name, safe='/')}",
        )
        for number, file in enumerate(files)
    )


def delta_view(delta: RunDelta) -> DeltaBody:
    return DeltaBody(
        run_id=delta.run_id,
        step=delta.step,
        attempt=delta.attempt,
        reasoning=delta.reasoning,
        content=delta.content,
        reasoning_start=delta.reasoning_start,
        content_start=delta.content_start,
        call_id=delta.call_id,
        progress=delta.progress,
    )


def trace_id(traceparent: str) -> str:
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""


def _guess(name: str, otherwise: str = BYTES) -> str:
    return mimetypes.guess_type(name)[0] or otherwise
