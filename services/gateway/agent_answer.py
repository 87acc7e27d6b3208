"""A run as one answer: reasoning, tool activity and content in the order in which a chat's reader gets them.

Pure. Input: answers of the ledger with their messages, and what is live between them. Output: ``Piece``s, which put
together are the same text whatever of them was live. It must not know HTTP or OpenAI's objects.

The content of the answer is what the model says without calling tools. What it says beside its calls is reasoning,
unless it is longer than ``HELD_CHARACTERS``: so much is held back until it is known which of the two it is.
"""

from dataclasses import dataclass, field

import msgspec

from schemas.chat import Message
from schemas.runs import RunDelta
from services.gateway.message_view import text_of

HELD_CHARACTERS = 280
BETWEEN = "\n\n"


class ToolActivity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happens to one call; ``delta.tool_activity`` holds a list of them."""

    call_id: str
    status: str
    """asked, waiting (for an approval), approved, denied, running, finished or failed."""
    tool: str = ""
    arguments: str = ""
    """JSON, shortened."""
    text: str = ""
    """Progress, or how the result begins."""
    files: tuple[str, ...] = ()
    """URLs below the gateway."""


class RunActivity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of the whole run, when that changes: ``delta.run_activity``."""

    status: str
    """waiting, paused or running."""
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class Piece:
    """Any of the texts, or one activity."""

    reasoning: str = ""
    content: str = ""
    tool: ToolActivity | None = None
    run: RunActivity | None = None


@dataclass
class Channel:
    """One text of the answer: how much of the step's is known, and whether a paragraph is due before more of it."""

    known: str = ""
    held: int = 0
    """Characters at the end of ``known`` that the reader has not been given."""
    begun: bool = False
    due: bool = False

    def hear(self, start: int, text: str) -> str:
        """The part of ``text`` that is not known; nothing behind a gap, since the whole text comes later."""
        if start > len(self.known):
            return ""
        fresh = text[len(self.known) - start :]
        self.known += fresh
        return fresh

    def rest(self, whole: str) -> str:
        """What completes the step's text; all of it again where a dead attempt said something else."""
        told = self.known[: len(self.known) - self.held]
        if whole.startswith(told):
            return whole[len(told) :]
        self.due = True
        return whole

    def give(self, text: str) -> str:
        """``text`` as the reader gets it."""
        if not text:
            return ""
        given = f"{BETWEEN}{text}" if self.due else text
        self.begun, self.due = True, False
        return given

    def end_step(self) -> None:
        self.known, self.held, self.due = "", 0, self.begun


@dataclass
class AgentAnswer:
    _step: int = 0
    _reasoning: Channel = field(default_factory=Channel)
    _content: Channel = field(default_factory=Channel)

    def heard(self, delta: RunDelta) -> list[Piece]:
        """Something live."""
        if delta.call_id:
            activity = ToolActivity(call_id=delta.call_id, status="running", text=delta.progress)
            return [Piece(tool=activity)]
        self._begin(delta.step)
        reasoning = self._reasoning.hear(delta.reasoning_start, delta.reasoning)
        content = self._content.hear(delta.content_start, delta.content)
        self._content.held += len(content)
        released = ""
        if len(self._content.known) > HELD_CHARACTERS:
            released = self._content.known[len(self._content.known) - self._content.held :]
            self._content.held = 0
        return _pieces(self._reasoning.give(reasoning), self._content.give(released))

    def answered(self, step: int, message: Message) -> list[Piece]:
        """The whole answer of a step."""
        self._begin(step)
        reasoning = self._reasoning.give(self._reasoning.rest(message.reasoning or ""))
        said = text_of(message.content)
        told = len(self._content.known) > self._content.held
        if message.tool_calls and not told and len(said) <= HELD_CHARACTERS:
            self._reasoning.due = self._reasoning.begun
            pieces = _pieces(reasoning + self._reasoning.give(said), "")
        else:
            pieces = _pieces(reasoning, self._content.give(self._content.rest(said)))
        self._end_step()
        return pieces

    def _begin(self, step: int) -> None:
        if step != self._step:
            self._end_step()
            self._step = step

    def _end_step(self) -> None:
        self._reasoning.end_step()
        self._content.end_step()


def _pieces(reasoning: str, content: str) -> list[Piece]:
    pieces = [Piece(reasoning=reasoning), Piece(content=content)]
    return [piece for piece in pieces if piece.reasoning or piece.content]
