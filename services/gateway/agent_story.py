"""A run told to a chat: what its ledger and its live messages become in the answer.

Input: items of a ``RunFeed``. Output: ``Piece``s, and how the run ended. It must not know HTTP or OpenAI's objects.
"""

from schemas.chat import Message
from schemas.runs import (
    ModelAnswered,
    NumberedEntry,
    RunDelta,
    RunEnded,
    RunEvent,
    RunPaused,
    RunResumed,
    RunWaiting,
    ToolAnswered,
    ToolAsked,
    ToolDecided,
)
from services.gateway.agent_answer import AgentAnswer, Piece, RunActivity, ToolActivity
from services.gateway.message_view import Messages, text_of
from services.gateway.run_event_body import event_id
from services.gateway.run_event_view import event_files, file_views

SHORT_CHARACTERS = 2_000


class AgentStory:
    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._answer = AgentAnswer()
        self.ended: RunEnded | None = None
        self.last: ModelAnswered | None = None

    async def pieces(self, item: NumberedEntry | RunDelta) -> list[Piece]:
        """Raises Unavailable when the blob store does not answer."""
        if isinstance(item, RunDelta):
            return self._answer.heard(item)
        events = item.entry.events
        found: list[Piece] = []
        for index, event in enumerate(events):
            found += await self._of(event, item.entry.run_id, event_id(item.sequence, index, len(events)))
        return found

    async def _of(self, event: RunEvent, run_id: str, identifier: str) -> list[Piece]:
        if isinstance(event, ModelAnswered):
            self.last = event
            message = await self._messages.load(event.message)
            return self._answer.answered(event.step, message or Message(role="assistant"))
        if isinstance(event, RunEnded):
            self.ended = event
        activity = await self._tool(event, run_id, identifier)
        run = _run(event)
        return [Piece(tool=activity, run=run)] if activity is not None or run is not None else []

    async def _tool(self, event: RunEvent, run_id: str, identifier: str) -> ToolActivity | None:
        if isinstance(event, ToolAsked):
            arguments = (await self._messages.arguments(event.arguments))[:SHORT_CHARACTERS]
            status = "waiting" if event.needs_approval else "asked"
            return ToolActivity(call_id=event.call_id, status=status, tool=event.tool, arguments=arguments)
        if isinstance(event, ToolDecided):
            status = "approved" if event.approved else "denied"
            return ToolActivity(call_id=event.call_id, status=status, text=event.note)
        if isinstance(event, ToolAnswered):
            return await self._result(event, run_id, identifier)
        return None

    async def _result(self, event: ToolAnswered, run_id: str, identifier: str) -> ToolActivity:
        message = await self._messages.load(event.message)
        return ToolActivity(
            call_id=event.call_id,
            status="finished" if event.failure is None else "failed",
            text=text_of(message.content)[:SHORT_CHARACTERS] if message is not None else "",
            files=tuple(file.url for file in file_views(run_id, identifier, event_files(event))),
        )


def _run(event: RunEvent) -> RunActivity | None:
    if isinstance(event, RunWaiting):
        return RunActivity(status="waiting", code=event.failure.code, message=event.failure.message)
    if isinstance(event, RunPaused | RunResumed):
        return RunActivity(status="paused" if isinstance(event, RunPaused) else "running")
    return None
